// What `lathe plan` says of memory is what a run takes.
#include <gtest/gtest.h>

#include "lathe/commands.h"
#include "lathe/model_files.h"
#include "lathe/plan.h"
#include "support/peak_memory.h"
#include "support/temp_dir.h"

namespace lathe {
namespace {

class Memory : public testing::TestWithParam<const char*> {};

TEST_P(Memory, IsWhatThePlanSays) {
  const test::TempDir folder;
  Options options =
      parse_options(Command::train,
                    std::vector<std::string>{
                        "--layers=6", "--heads=6", "--channels=192", "--context=32",
                        "--micro-batch=32", "--steps=2", "--val-tokens=1024", "--sample-every=0",
                        "--quiet", GetParam(), "--out=" + (folder.path() / "run").string()},
                    {});
  const std::int64_t peak =
      test::peak_anonymous_bytes([&] { EXPECT_EQ(train_command(options), 0); });
  resolve(options);
  const MemoryPlan plan = plan_memory(complete_config(options, 256), options, /*ranks=*/1);
  EXPECT_GT(plan.total(), 80'000'000);
  EXPECT_NEAR(static_cast<double>(peak), static_cast<double>(plan.total()),
              0.1 * static_cast<double>(plan.total()));
}

INSTANTIATE_TEST_SUITE_P(Options, Memory,
                         testing::Values("--precision=fp32", "--precision=bf16",
                                         "--recompute=block"));

}  // namespace
}  // namespace lathe
