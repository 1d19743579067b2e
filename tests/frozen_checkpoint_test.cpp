// Checkpoints of the first version (tests/golden/README.md): every later one loads them and goes on
// with the same data, schedule and optimizer state to the same losses.
#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "lathe/checkpoint.h"
#include "lathe/data_loader.h"
#include "lathe/evaluate.h"
#include "lathe/model_files.h"
#include "lathe/schedule.h"
#include "support/device_tensors.h"
#include "support/test_model.h"

namespace lathe::test {
namespace {

// What the run that wrote the checkpoint after step 6 recorded in its metrics.jsonl.
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

}  // namespace
}  // namespace lathe::test
