// What `lathe plan` says of a rank's memory is what each of several takes. A program of its own:
// what threads leave behind when they end would count for tests after this one.
#include <gtest/gtest.h>

#include "lathe/commands.h"
#include "lathe/model_files.h"
#include "lathe/plan.h"
#include "lathe/stop_signal.h"
#include "support/peak_memory.h"
#include "support/temp_dir.h"
#include "support/thread_ranks.h"

namespace lathe {
namespace {

// Ranks that are threads: each has its own tensors, the first one the samples.
TEST(RankMemory, IsWhatThePlanSays) {
  constexpr int kRanks = 3;
  const test::TempDir folder;
  Options options = parse_options(
      Command::train,
      std::vector<std::string>{"--layers=6", "--heads=6", "--channels=192", "--context=32",
                               "--micro-batch=16", "--steps=2", "--val-tokens=1024",
                               "--sample-every=0", "--quiet", "--device=cpu", "--threads=1",
                               "--precision=bf16", "--out=" + (folder.path() / "run").string()},
      {});
  const StopSignalWatch watch;
  const std::int64_t peak = test::peak_anonymous_bytes([&] {
    test::run_ranks(kRanks, [&](Communicator& communicator) {
      EXPECT_EQ(train_as_rank(options, communicator), 0);
    });
  });
  resolve(options, {.all = kRanks, .on_this_machine = kRanks});
  const auto planned = [&](std::int64_t ranks) {
    return plan_memory(complete_config(options, 256), options, ranks);
  };
  const MemoryPlan plan = planned(kRanks);
  const std::int64_t expected = kRanks * plan.total() - (kRanks - 1) * plan.samples;
  EXPECT_NEAR(static_cast<double>(peak), static_cast<double>(expected),
              0.1 * static_cast<double>(expected));
  // Were the optimizer not shared out, it would show.
  EXPECT_GT(kRanks * (planned(1).optimizer - plan.optimizer), 0.3 * static_cast<double>(expected));
}

}  // namespace
}  // namespace lathe
