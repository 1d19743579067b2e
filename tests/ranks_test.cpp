// Whole runs by several ranks: the losses of one rank alone, the same bits in every run,
// checkpoints that any number of ranks goes on from, and no sequence of the data left out or read
// twice. Ranks are threads here; mpi_test has real ones.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "lathe/checkpoint.h"
#include "lathe/commands.h"
#include "lathe/error.h"
#include "lathe/files.h"
#include "lathe/resume.h"
#include "lathe/stop_signal.h"
#include "support/error_of.h"
#include "support/small_run.h"
#include "support/thread_ranks.h"
#include "training/trainer.h"

namespace lathe::test {
namespace {

std::string story() {
  std::string text;
  for (int i = 0; text.size() < 20'000; ++i) {
    text += fmt::format("{} and {} make {}. ", i % 37, i % 11, i % 37 + i % 11);
  }
  return text;
}

// 24 sequences of 16 tokens in a step: what 1, 2, 3, 4 and 8 ranks can share out.
const std::vector<std::string> kRun = {"--batch-tokens=384", "--micro-batch=1", "--steps=50",
                                       "--threads=1",        "--shuffle",       "--device=cpu",
                                       "--warmup-steps=5",   "--lr=3e-3"};

// Does something whenever an operation of that name has run.
class EachTime final : public OutputObserver {
 public:
  EachTime(std::string name, std::function<void()> action)
      : name_(std::move(name)), action_(std::move(action)) {}
  void observe(const OperationOutputs& operation) override {
    if (name_ == operation.name) action_();
  }

 private:
  std::string name_;
  std::function<void()> action_;
};

class RankRuns : public testing::Test {
 protected:
  // The exit code of the first rank.
  int train(int ranks, const std::string& name, std::vector<std::string> more) const {
    if (more.empty() || !more.front().starts_with("--resume")) {
      more.insert(more.begin(), kRun.begin(), kRun.end());
    }
    const StopSignalWatch watch;
    const Options options = runs_.options(name, more);
    int exit_code = -1;
    run_ranks(ranks, [&](Communicator& communicator) {
      const int mine = train_as_rank(options, communicator);
      if (communicator.is_first()) exit_code = mine;
    });
    return exit_code;
  }

  // "exit 2: what is said on stderr".
  std::string refusal(int ranks, const std::string& name,
                      const std::vector<std::string>& more) const {
    testing::internal::CaptureStderr();
    const int exit_code = train(ranks, name, more);
    return fmt::format("exit {}: {}", exit_code, testing::internal::GetCapturedStderr());
  }

  std::vector<double> losses(const std::string& name, const std::string& key = "train/loss") const {
    std::vector<double> values;
    for (const auto& line : runs_.lines(name, key)) values.push_back(line.at(key).get<double>());
    return values;
  }

  static void expect_close(const std::vector<double>& found, const std::vector<double>& expected,
                           const std::string& what) {
    ASSERT_EQ(found.size(), expected.size()) << what;
    for (std::size_t i = 0; i < found.size(); ++i) {
      EXPECT_LE(std::abs(found[i] - expected[i]), 1e-5 * std::abs(expected[i]))
          << what << ", step " << i + 1;
    }
  }

  SmallRuns runs_{story()};
};

TEST_F(RankRuns, HaveTheLossesOfOneRank) {
  ASSERT_EQ(train(1, "alone", {}), 0);
  const std::vector<double> expected = losses("alone");
  ASSERT_EQ(expected.size(), 50u);
  EXPECT_LT(expected.back(), expected.front() - 0.5) << "it learns nothing";
  for (const int ranks : {2, 3, 4, 8}) {
    const std::string name = fmt::format("ranks{}", ranks);
    ASSERT_EQ(train(ranks, name, {}), 0);
    expect_close(losses(name), expected, name);
    expect_close(losses(name, "val/loss"), losses("alone", "val/loss"), name + ", validation");
    EXPECT_EQ(runs_.result(name).at("status"), "finished");
    EXPECT_EQ(runs_.state(name, 50).at("sequence"), runs_.state("alone", 50).at("sequence"));
  }
}

TEST_F(RankRuns, AreTheSameBitsInEveryRun) {
  for (const std::string precision : {"fp32", "bf16"}) {
    const std::vector<std::string> more = {"--steps=6", "--precision=" + precision};
    ASSERT_EQ(train(3, "a" + precision, more), 0);
    ASSERT_EQ(train(3, "b" + precision, more), 0);
    EXPECT_TRUE(runs_.same_tensors("a" + precision, 6, "b" + precision, 6));
    EXPECT_EQ(losses("a" + precision), losses("b" + precision));
  }
}

// Any number of ranks goes on from what any other has saved: with the losses of a run that nobody
// interrupted, and by the same number with its bits.
TEST_F(RankRuns, GoOnFromEachOthersCheckpoints) {
  std::map<int, std::vector<double>> unbroken;
  for (int ranks = 1; ranks <= 4; ++ranks) {
    const std::string name = fmt::format("unbroken{}", ranks);
    ASSERT_EQ(train(ranks, name, {}), 0);
    unbroken[ranks] = losses(name);
  }
  for (int first = 1; first <= 4; ++first) {
    for (int second = 1; second <= 4; ++second) {
      const std::string name = fmt::format("from{}to{}", first, second);
      ASSERT_EQ(train(first, name, {"--stop-at-step=20"}), 0);
      ASSERT_EQ(train(second, name, {"--resume"}), 0);
      if (first == second) {
        EXPECT_EQ(losses(name), unbroken[first]) << name;
        EXPECT_TRUE(runs_.same_tensors(name, 50, fmt::format("unbroken{}", first), 50)) << name;
      } else {
        expect_close(losses(name), unbroken[1], name);
      }
    }
  }
}

TEST_F(RankRuns, GoOnInBf16WithTheirMasterWeights) {
  ASSERT_EQ(train(3, "whole", {"--precision=bf16", "--steps=12"}), 0);
  ASSERT_EQ(train(3, "broken", {"--precision=bf16", "--steps=12", "--stop-at-step=5"}), 0);
  ASSERT_EQ(train(3, "broken", {"--resume"}), 0);
  EXPECT_TRUE(runs_.same_tensors("broken", 12, "whole", 12));
  ASSERT_EQ(train(2, "other", {"--precision=bf16", "--steps=12", "--stop-at-step=5"}), 0);
  ASSERT_EQ(train(1, "other", {"--resume"}), 0);
  EXPECT_EQ(runs_.result("other").at("status"), "finished");
}

using Steps = std::vector<std::multiset<std::int64_t>>;  // sequences of each step

// What the ranks of a run read, as it is handed to the model.
Steps steps_read(const SmallRuns& runs, const std::string& name, int ranks,
                 const std::vector<std::string>& args, std::size_t steps) {
  constexpr int kRowsPerStep = 24;
  Steps read(steps);
  std::mutex mutex;
  const StopSignalWatch watch;
  const Options given = runs.options(name, args);
  run_ranks(ranks, [&](Communicator& communicator) {
    Options options = given;
    const auto start = find_start(options, communicator);
    resolve(options, {.all = ranks, .on_this_machine = ranks});
    FolderLock lock = communicator.is_first() ? RunFolder::lock(options.out) : FolderLock();
    Trainer trainer(options, std::move(lock),
                    open_training_data(options, {.tokenizer = options.tokenizer, .token_keys = {}}),
                    start, /*initial=*/nullptr, communicator);
    int micro_steps = start ? static_cast<int>(start->state.step) * kRowsPerStep / ranks : 0;
    EachTime observer("embedding_backward", [&] {
      const int step = micro_steps++ * ranks / kRowsPerStep;
      const std::lock_guard writes(mutex);
      for (const std::int64_t sequence : trainer.loader().sequences()) {
        read.at(static_cast<std::size_t>(step)).insert(sequence);
      }
    });
    trainer.backend().set_observer(&observer);
    EXPECT_EQ(trainer.run(), 0);
  });
  return read;
}

TEST_F(RankRuns, ReadEachSequenceOnceWhateverTheirNumber) {
  constexpr std::size_t kSteps = 8;
  std::vector<std::string> args = kRun;
  args.insert(args.end(), {"--steps=8", "--val-tokens=16"});
  const Steps expected = steps_read(runs_, "read1", 1, args, kSteps);
  for (const auto& step : expected) {
    EXPECT_EQ(step.size(), 24u);
    EXPECT_EQ(std::set<std::int64_t>(step.begin(), step.end()).size(), 24u);
  }
  for (int first = 1; first <= 4; ++first) {
    for (int second = 1; second <= 4; ++second) {
      const std::string name = fmt::format("read{}to{}", first, second);
      std::vector<std::string> until = args;
      until.emplace_back("--stop-at-step=3");
      Steps found = steps_read(runs_, name, first, until, kSteps);
      const Steps rest = steps_read(runs_, name, second, {"--resume"}, kSteps);
      for (std::size_t i = 0; i < kSteps; ++i) found[i].insert(rest[i].begin(), rest[i].end());
      EXPECT_EQ(found, expected) << name;
    }
  }
}

// Each rank's part of a file has a checksum of its own, and together they are all of it.
TEST_F(RankRuns, SeeEveryDamagedByteOfWhatTheyHaveSaved) {
  ASSERT_EQ(train(3, "run", {"--steps=2", "--precision=bf16"}), 0);
  const std::string folder = runs_.path("run", "checkpoints/step-00000002");
  EXPECT_EQ(error_of([&] { open_checkpoint(folder); }), "");
  for (const std::string name : {"model.safetensors", "optimizer.safetensors"}) {
    const std::string path = folder + "/" + name;
    const std::string whole = read_file(path, ExitCode::internal);
    for (std::size_t at = 0; at < whole.size(); at += 997) {
      std::string damaged = whole;
      damaged[at] = static_cast<char>(damaged[at] ^ 1);
      write_file_atomically(path, damaged);
      EXPECT_NE(error_of([&] { open_checkpoint(folder); }).find("damaged"), std::string::npos)
          << name << " byte " << at;
    }
    write_file_atomically(path, whole);
  }
}

// From the weights of the single rank, each step in bf16 has nearly its loss and its norm.
TEST_F(RankRuns, InBf16EachStepIsNearThatOfOneRank) {
  ASSERT_EQ(train(1, "alone",
                  {"--precision=bf16", "--steps=10", "--checkpoint-every=1", "--keep=0",
                   "--val-every=0"}),
            0);
  const std::vector<double> expected = losses("alone"), norms = losses("alone", "train/grad_norm");
  for (std::size_t step = 2; step <= expected.size(); ++step) {
    for (const int ranks : {2, 3}) {
      const std::string name = fmt::format("step{}ranks{}", step, ranks);
      const std::string from = runs_.path("alone", fmt::format("checkpoints/step-{:08}", step - 1));
      std::filesystem::create_directories(runs_.path(name, "checkpoints"));
      std::filesystem::copy(from,
                            runs_.path(name, fmt::format("checkpoints/step-{:08}", step - 1)));
      ASSERT_EQ(train(ranks, name, {"--resume", fmt::format("--stop-at-step={}", step)}), 0);
      ASSERT_EQ(losses(name).size(), 1u);
      EXPECT_NEAR(losses(name).front(), expected[step - 1], 2e-3 * expected[step - 1]) << name;
      EXPECT_NEAR(losses(name, "train/grad_norm").front(), norms[step - 1], 2e-2 * norms[step - 1])
          << name;
    }
  }
}

TEST_F(RankRuns, RefuseABatchThatTheyCannotShareOut) {
  EXPECT_EQ(refusal(5, "five", {}),
            "exit 2: lathe: --batch-tokens 384: must be a multiple of 80, which is --micro-batch 1 "
            "x --seq-len "
            "16 x 5 ranks; the nearest are 320 and 400\n");
}

TEST_F(RankRuns, RefuseAFolderAlikeAndLeaveItAsItIs) {
  ASSERT_EQ(train(2, "run", {"--steps=2"}), 0);
  const std::string before = runs_.file("run", "result.json");
  const std::string folder = runs_.options("run", {}).out;
  EXPECT_EQ(refusal(2, "run", {"--steps=2"}),
            fmt::format(
                "exit 2: lathe: --out {}: holds a run; give --resume to go on with it, --overwrite "
                "to replace it, or another folder\n",
                folder));
  EXPECT_EQ(runs_.file("run", "result.json"), before);
  EXPECT_FALSE(std::filesystem::exists(runs_.path("run", "rank-0001.log")));
}

// All give up at the same step, with the code of divergence, and each says so in its log.
TEST_F(RankRuns, DivergeTogetherAndLeaveALogOfEach) {
  const std::string message = refusal(3, "run", {"--lr=1e30", "--max-skips=2"});
  EXPECT_TRUE(message.starts_with("exit 7: lathe: ")) << message;
  EXPECT_EQ(runs_.result("run").at("exit_code"), 7);
  for (const char* log : {"rank-0000.log", "rank-0001.log", "rank-0002.log"}) {
    EXPECT_NE(runs_.file("run", log).find("exit code 7: "), std::string::npos);
  }
  ASSERT_EQ(train(2, "run", {"--overwrite", "--steps=2"}), 0);
  EXPECT_FALSE(std::filesystem::exists(runs_.path("run", "rank-0001.log")));
}

// A step that is not finite is skipped by all ranks, whichever has it.
TEST_F(RankRuns, DecideAlikeOnStepsThatAreRefused) {
  ASSERT_EQ(train(3, "run", {"--steps=40", "--norm-spike-z=0.5", "--spike-window=5"}), 0);
  EXPECT_GT(runs_.result("run").at("skipped_steps").get<int>(), 0);
  ASSERT_EQ(train(1, "one", {"--steps=40", "--norm-spike-z=0.5", "--spike-window=5"}), 0);
  EXPECT_EQ(runs_.result("run").at("skipped_steps"), runs_.result("one").at("skipped_steps"));
}

}  // namespace
}  // namespace lathe::test
