// What `lathe plan` says of memory is what a run takes.
#include <gtest/gtest.h>

#include <atomic>
#include <fstream>
#include <thread>

#include "lathe/commands.h"
#include "lathe/model_files.h"
#include "lathe/plan.h"
#include "support/temp_dir.h"

namespace lathe {
namespace {

// Memory of this process that is no file's.
std::int64_t anonymous_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    if (word != "RssAnon:") continue;
    std::int64_t kilobytes = 0;
    status >> kilobytes;
    return kilobytes * 1024;
  }
  return 0;
}

template <class Work>
std::int64_t peak_anonymous_bytes(const Work& work) {
  std::atomic<std::int64_t> peak = 0;
  const std::jthread watcher([&peak](const std::stop_token& end) {
    while (!end.stop_requested()) {
      peak = std::max<std::int64_t>(peak, anonymous_bytes());
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
  });
  work();
  return peak;
}

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
  const std::int64_t peak = peak_anonymous_bytes([&] { EXPECT_EQ(train_command(options), 0); });
  resolve(options);
  const MemoryPlan plan = plan_memory(complete_config(options, 256), options);
  EXPECT_GT(plan.total(), 80'000'000);
  EXPECT_NEAR(static_cast<double>(peak), static_cast<double>(plan.total()),
              0.1 * static_cast<double>(plan.total()));
}

INSTANTIATE_TEST_SUITE_P(Options, Memory,
                         testing::Values("--precision=fp32", "--precision=bf16",
                                         "--recompute=block"));

}  // namespace
}  // namespace lathe
