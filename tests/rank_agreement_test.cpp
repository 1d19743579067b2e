// Ranks that do not do the same: with other options, or with other parameters, by a bit.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "lathe/checkpoint.h"
#include "lathe/commands.h"
#include "lathe/model_files.h"
#include "lathe/resume.h"
#include "lathe/stop_signal.h"
#include "run/session_facts.h"
#include "support/error_of.h"
#include "support/small_run.h"
#include "support/thread_ranks.h"
#include "training/trainer.h"

namespace lathe::test {
namespace {

// 12 sequences of 16 tokens in a step.
constexpr int kSequences = 12;
const std::vector<std::string> kRun = {"--batch-tokens=192", "--micro-batch=1",
                                       "--threads=1",        "--device=cpu",
                                       "--warmup-steps=1",   "--checkpoint-every=0"};

// A bit of a parameter that changes on one rank each time that an operation has run for one of
// these times.
struct Fault {
  int rank;
  std::string tensor, operation;
  std::set<int> times;
};

// At the ends of these steps' backward passes.
Fault in_steps(const std::set<int>& steps, int rank, int ranks, const std::string& tensor) {
  std::set<int> times;
  for (const int step : steps) times.insert(step * kSequences / ranks);
  return {rank, tensor, "embedding_backward", times};
}

class RankAgreement : public testing::Test {
 protected:
  Options options(const std::string& name, std::vector<std::string> more) const {
    if (more.empty() || !more.front().starts_with("--resume")) {
      more.insert(more.begin(), kRun.begin(), kRun.end());
    }
    return runs_.options(name, more);
  }

  // By ranks whose options may differ: "exit 2: what is said on stderr".
  std::string train(const std::vector<Options>& of_ranks) const {
    const StopSignalWatch watch;
    int exit_code = -1;
    testing::internal::CaptureStderr();
    run_ranks(static_cast<int>(of_ranks.size()), [&](Communicator& communicator) {
      const int mine =
          train_as_rank(of_ranks[static_cast<std::size_t>(communicator.rank())], communicator);
      if (communicator.is_first()) exit_code = mine;
    });
    return fmt::format("exit {}: {}", exit_code, testing::internal::GetCapturedStderr());
  }

  // What ends a run of so many ranks, without the names of hosts, when one has a fault; "" when
  // nothing does.
  std::string end_of(int ranks, const std::string& name, const std::vector<std::string>& more,
                     const Fault& fault = {}, const std::set<int>& other_seeds = {}) const {
    const Options given = options(name, more);
    const StopSignalWatch watch;
    return without_hosts(error_of([&] {
      run_ranks(ranks, [&](Communicator& communicator) {
        Options mine = given;
        resolve(mine, {.all = ranks, .on_this_machine = ranks});
        if (other_seeds.contains(communicator.rank())) ++mine.seed;
        FolderLock lock = communicator.is_first() ? RunFolder::lock(mine.out) : FolderLock();
        const auto start = find_start(mine, communicator);
        Trainer trainer(mine, std::move(lock),
                        open_training_data(mine, {.tokenizer = mine.tokenizer, .token_keys = {}}),
                        start, /*initial=*/nullptr, communicator);
        AtOperation observer(fault.operation, fault.times, [&](const OperationOutputs&) {
          change_bit(trainer.model(), fault.tensor);
        });
        if (communicator.rank() == fault.rank) trainer.backend().set_observer(&observer);
        trainer.run();
      });
    }));
  }

  static void change_bit(const Gpt2& model, const std::string& name) {
    for (const NamedTensor& tensor : model_tensors(model)) {
      if (tensor.name == name) *static_cast<std::byte*>(tensor.memory.data()) ^= std::byte{1};
    }
  }

  // Without the names of hosts.
  static std::string refusal(const std::string& when, const std::string& who,
                             const std::string& where) {
    return fmt::format(
        "exit 8: parameters differ between ranks {}: {}, first in {}, in 1 of 16 tensors; "
        "nothing of it is saved (--rank-check-every)",
        when, who, where);
  }
  static std::string without_hosts(std::string message) {
    const std::string host = fmt::format(" on {}", host_name());
    for (std::size_t at; (at = message.find(host)) != message.npos;) message.erase(at, host.size());
    return message;
  }

  SmallRuns runs_{std::string(4000, 'a') + std::string(4000, 'b')};
};

constexpr const char* kQkv = "blocks.0.attention.qkv.weight";

TEST_F(RankAgreement, FindsABitInTheStepInWhichItChanges) {
  for (const int ranks : {2, 3, 4}) {
    for (const std::string precision : {"fp32", "bf16"}) {
      const int rank = ranks - 1;
      const std::string name = fmt::format("{}{}", ranks, precision);
      const std::string end =
          end_of(ranks, name, {"--rank-check-every=1", "--precision=" + precision},
                 in_steps({3}, rank, ranks, kQkv));
      const std::string others = ranks == 2 ? "rank 0" : "the others";
      EXPECT_EQ(end, refusal("in step 3", fmt::format("rank {} from {}", rank, others), kQkv))
          << name;
      EXPECT_EQ(runs_.result(name).at("exit_code"), 8);
      EXPECT_EQ(runs_.result(name).at("step"), 2);
      EXPECT_TRUE(list_checkpoints(runs_.path(name)).empty());
    }
  }
}

TEST_F(RankAgreement, FindsWhatStaysAtTheNextCheck) {
  EXPECT_EQ(end_of(3, "run", {"--rank-check-every=4"},
                   in_steps({2, 3, 4, 5, 6, 7, 8}, 1, 3, "final_ln.gain")),
            refusal("in step 4", "rank 1 from the others", "final_ln.gain"));
}

// A bit that changes in the validation of step 1, for which the step would be saved.
TEST_F(RankAgreement, SavesNothingThatDiffers) {
  const int micro_steps = kSequences / 3;
  EXPECT_EQ(end_of(3, "run", {"--val-every=1", "--keep-best"},
                   {0, kQkv, "embedding_forward", {micro_steps + 1}}),
            refusal("before the save of step 1", "rank 0 from the others", kQkv));
  EXPECT_TRUE(list_checkpoints(runs_.path("run")).empty());
}

TEST_F(RankAgreement, DoesNotBeginWithOtherParameters) {
  const std::string end = end_of(4, "run", {}, {}, {1, 3});
  EXPECT_TRUE(end.starts_with(
      "exit 8: parameters differ between ranks at the start, step 0: rank 1, rank 3 "
      "from rank 0, rank 2, first in token_embedding.weight, in "))
      << end;
  EXPECT_FALSE(std::filesystem::exists(runs_.path("run", "config.toml")));
}

TEST_F(RankAgreement, IsNotAskedForWhereItIsOff) {
  EXPECT_EQ(end_of(3, "off", {"--rank-check-every=0"}, in_steps({3, 8}, 1, 3, kQkv)), "");
  EXPECT_EQ(runs_.result("off").at("status"), "finished");
}

TEST_F(RankAgreement, FindsNothingWhereNothingDiffers) {
  const auto expect_silence = [&](int first, int second, const std::string& precision) {
    const std::string name = fmt::format("{}{}{}", precision, first, second);
    EXPECT_EQ(end_of(first, name,
                     {"--rank-check-every=1", "--precision=" + precision, "--steps=4",
                      "--stop-at-step=2"}),
              "");
    EXPECT_EQ(end_of(second, name, {"--resume"}), "");
    EXPECT_EQ(runs_.result(name).at("status"), "finished");
  };
  for (int ranks = 1; ranks <= 4; ++ranks) expect_silence(ranks, 1 + ranks % 4, "fp32");
  for (int ranks = 1; ranks <= 4; ++ranks) expect_silence(ranks, ranks, "bf16");
}

TEST_F(RankAgreement, NamesTheOptionThatDiffers) {
  const auto refused = [&](const std::vector<std::string>& of_third) {
    const std::string said =
        train({options("run", {}), options("run", {}), options("run", of_third)});
    EXPECT_FALSE(std::filesystem::exists(runs_.path("run", "config.toml")));
    return without_hosts(said);
  };
  const std::string tail =
      "; must be the same on all ranks, see their environments (LATHE_*) and --config files\n";
  EXPECT_EQ(refused({"--lr=3e-3"}),
            "exit 2: lathe: --lr: rank 0 has 0.01, rank 2 has 0.003" + tail);
  EXPECT_EQ(refused({"--stop-at-step=3"}),
            "exit 2: lathe: --stop-at-step: rank 0 has none, rank 2 has 3" + tail);
  EXPECT_EQ(refused({"--precision=bf16"}),
            "exit 2: lathe: --precision: rank 0 has fp32, rank 2 has bf16" + tail);
  EXPECT_EQ(train({options("run", {}), options("run", {"--threads=2", "--rank-timeout=9m"})}),
            "exit 0: ");
}

}  // namespace
}  // namespace lathe::test
