// Checkpoints of each version of the format (tests/golden/README.md): every later one loads them
// and goes on with the same data, schedule and optimizer state to the same losses.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

#include "lathe/checkpoint.h"
#include "lathe/commands.h"
#include "lathe/data_loader.h"
#include "lathe/evaluate.h"
#include "lathe/files.h"
#include "lathe/model_files.h"
#include "lathe/options.h"
#include "lathe/schedule.h"
#include "support/device_tensors.h"
#include "support/json.h"
#include "support/temp_dir.h"
#include "support/test_model.h"

namespace lathe::test {
namespace {

// Version 1: what the run that wrote the checkpoint after step 6 recorded in its metrics.jsonl.
struct Recorded {
  const char* precision;
  double val_loss;                  // after step 6
  double losses[2], grad_norms[2];  // of steps 7 and 8
  double final_val_loss;            // after step 8
  double tolerance;                 // relative
};

// fp32: sums of another order round differently, by some 1e-7. bf16: activations round to 2^-9, on
// another processor some of them the other way, and a loss is the mean of 32 tokens or more.
constexpr Recorded kRecorded[] = {
    {.precision = "fp32",
     .val_loss = 5.02512581,
     .losses = {5.01144218, 5.00731373},
     .grad_norms = {1.02999246, 1.0195806},
     .final_val_loss = 4.98597836,
     .tolerance = 1e-6},
    {.precision = "bf16",
     .val_loss = 5.02464147,
     .losses = {5.01106787, 5.00764513},
     .grad_norms = {1.02997446, 1.01812077},
     .final_val_loss = 4.986214,
     .tolerance = 4e-4},
};

constexpr ScheduleSpec kSchedule = {.kind = LrSchedule::cosine,
                                    .lr = 1e-2,
                                    .final_lr_fraction = 0.1,
                                    .warmup_steps = 2,
                                    .total_steps = 8};
constexpr std::int64_t kSeqLen = 8, kMicroBatch = 2, kMicroSteps = 2;

class FrozenCheckpoint : public testing::TestWithParam<Recorded> {
 protected:
  static TokenFiles open_text(Split split) {
    return TokenFiles::open({.patterns = {LATHE_GOLDEN_DIR "/checkpoint/numbers.txt"},
                             .option = "--train",
                             .format = DataFormat::automatic,
                             .split = split,
                             .vocab = 256});
  }

  void expect_near(double actual, double expected) const {
    EXPECT_NEAR(actual, expected, GetParam().tolerance * expected);
  }
};

TEST_P(FrozenCheckpoint, GoesOnToTheRecordedLosses) {
  const CheckpointInfo info =
      open_checkpoint(std::string(LATHE_GOLDEN_DIR "/checkpoint/") + GetParam().precision);
  EXPECT_EQ(info.config,
            (ModelConfig{.layers = 1, .heads = 1, .channels = 8, .context = 8, .vocab = 256}));
  EXPECT_EQ(info.precision, GetParam().precision);
  EXPECT_EQ(info.tokenizer, "bytes");
  EXPECT_EQ(info.state.step, 6);
  EXPECT_EQ(info.state.tokens, 192);
  EXPECT_EQ(info.state.best_val_step, 6);
  expect_near(info.state.best_val_loss.value(), GetParam().val_loss);

  TestModel model({.config = info.config,
                   .options = {.micro_batch = kMicroBatch,
                               .seq_len = kSeqLen,
                               .precision = parse_precision(info.precision),
                               .recompute = Recompute::none,
                               .training = true}});
  load_checkpoint(info, model.backend(), model_tensors(model.model()),
                  optimizer_tensors(model.model(), model.adamw()));
  for (const ParameterSpec& spec : model.specs()) {
    EXPECT_EQ(
        model.values(spec, model.model().parameters()),
        rounded_to(parse_precision(info.precision), model.values(spec, model.adamw().master())));
  }
  const TokenFiles val = open_text(Split::validation);
  expect_near(evaluate(model.model(), val, 0).value().loss, GetParam().val_loss);

  DataLoader loader(open_text(Split::training),
                    {.seq_len = kSeqLen, .seed = 1337, .shuffle = true, .rows_per_read = 2},
                    {.epoch = info.state.epoch, .sequence = info.state.sequence});
  constexpr std::size_t kTokens = kMicroBatch * kSeqLen * kMicroSteps;
  std::vector<std::int32_t> tokens(kTokens), targets(kTokens);
  const std::vector<std::int64_t> cuts(kMicroSteps, kMicroBatch);
  for (std::size_t i = 0; i < 2; ++i) {
    for (std::size_t begin = 0; begin < kTokens; begin += kTokens / kMicroSteps) {
      loader.next(std::span(tokens).subspan(begin, kTokens / kMicroSteps),
                  std::span(targets).subspan(begin, kTokens / kMicroSteps));
    }
    const double loss = model.forward_backward({.sequences = kMicroBatch * kMicroSteps,
                                                .seq_len = kSeqLen,
                                                .tokens = tokens,
                                                .targets = targets},
                                               cuts);
    expect_near(loss, GetParam().losses[i]);
    const std::int64_t step = info.state.step + static_cast<std::int64_t>(i);
    const AdamW::Sums sums = model.update(step + 1, learning_rate(kSchedule, step));
    EXPECT_NEAR(sums.gradient_norm, GetParam().grad_norms[i],
                10 * GetParam().tolerance * GetParam().grad_norms[i]);
  }
  expect_near(evaluate(model.model(), val, 0).value().loss, GetParam().final_val_loss);
}

INSTANTIATE_TEST_SUITE_P(Precisions, FrozenCheckpoint, testing::ValuesIn(kRecorded),
                         [](const auto& test) { return std::string(test.param.precision); });

// Version 2: a run of its own goes on from the checkpoint, by the options that are in there.
class FrozenCheckpointOfARun : public testing::Test {
 protected:
  // The file of text in the run's options is relative to this folder.
  void SetUp() override { std::filesystem::current_path(LATHE_GOLDEN_DIR "/checkpoint"); }
  void TearDown() override { std::filesystem::current_path(before_); }

  // Of metrics.jsonl.
  std::vector<nlohmann::json> lines_with(const std::string& key) const {
    std::istringstream text(read_file(folder_.path() / "run/metrics.jsonl", ExitCode::internal));
    std::vector<nlohmann::json> lines;
    for (std::string line; std::getline(text, line);) {
      auto json = parse_json(line);
      if (json.contains(key)) lines.push_back(std::move(json));
    }
    return lines;
  }

  static void expect_near(double actual, double expected) {
    EXPECT_NEAR(actual, expected, 1e-6 * expected);  // fp32, as above
  }

  std::filesystem::path before_ = std::filesystem::current_path();
  TempDir folder_;
};

TEST_F(FrozenCheckpointOfARun, HoldsWhatTheRunKnew) {
  const TrainState state = open_checkpoint("version2").state;
  EXPECT_EQ(state.step, 13);
  EXPECT_EQ(state.sequence, 52u);
  EXPECT_EQ(state.tokens, 352);  // of 11 steps: two were refused
  EXPECT_EQ(state.best_val_step, 10);
  EXPECT_EQ(state.validated_step, 12);
  const GuardState guard = {
      .skipped_steps = 2,
      .rollbacks = 0,
      .refused_in_row = 0,
      .last_refused_step = 12,
      .losses = {2.712062120437622, 3.0958480834960938, 2.785820960998535, 2.835787534713745},
      .gradient_norms = {0.6681312918663025, 0.7684857249259949, 0.6789253950119019,
                         0.5834251046180725}};
  EXPECT_EQ(state.guard, guard);
  const StopRuleState rules = {.best_val_loss = 2.553418755531311,
                               .validations_without_best = 2,
                               .end_reason = "",
                               .end_detail = ""};
  EXPECT_EQ(state.stop_rules, rules);
}

// Step 15 is an outlier to the windows in the checkpoint, and patience is over by then only if the
// validation that the checkpoint had seen, and the one that it had not, both count.
TEST_F(FrozenCheckpointOfARun, GoesOnToTheRecordedEnd) {
  const std::string run = (folder_.path() / "run").string();
  const std::vector<std::string> args = {"--resume=version2", "--out=" + run, "--quiet"};
  ASSERT_EQ(train_command(parse_options(Command::train, args, {})), 0);

  const auto steps = lines_with("train/loss"), validations = lines_with("val/loss");
  ASSERT_EQ(steps.size(), 2u);
  ASSERT_EQ(validations.size(), 3u);  // of step 13 too
  constexpr double kLosses[] = {2.6450583934783936, 2.857867479324341};
  constexpr double kNorms[] = {0.8380803465843201, 1.07138192653656};
  constexpr double kValLosses[] = {2.558091608186563, 2.5535980525116124, 2.5535980525116124};
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(steps[i].at("step"), 14 + i);
    expect_near(steps[i].at("train/loss"), kLosses[i]);
    EXPECT_NEAR(steps[i].at("train/grad_norm"), kNorms[i], 1e-5 * kNorms[i]);
    EXPECT_EQ(steps[i].contains("train/skipped"), i == 1);
  }
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(validations[i].at("step"), 13 + i);
    expect_near(validations[i].at("val/loss"), kValLosses[i]);
  }
  const TrainState end = open_checkpoint(run).state;
  EXPECT_EQ(end.step, 15);
  EXPECT_EQ(end.guard.skipped_steps, 3);
  const auto result = parse_json(read_file(folder_.path() / "run/result.json", ExitCode::internal));
  EXPECT_EQ(result.at("end_detail"), "5 validations without a new best");
}

}  // namespace
}  // namespace lathe::test
