// Numbers going wrong: whatever is not finite, wherever it comes up, and what is far above the
// steps before it, never reaches the weights, and what comes later is as if that step had not been.
#include "lathe/step_guard.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "lathe/random.h"
#include "support/device_tensors.h"
#include "support/error_of.h"
#include "support/small_run.h"
#include "support/test_model.h"
#include "training/finite_check.h"

namespace lathe::test {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr std::int64_t kVocab =
    128;  // a whole number of padded columns: what is in those is unused

double random_number(std::uint64_t seed, std::uint64_t index) {
  return uniform({.seed = seed, .stream = RandomStream::sampling, .substream = 0}, index);
}

Options guard_options(const std::vector<std::string>& args) {
  return parse_options(Command::train, args, {});
}

// ---- The windows, against the definition in long double

struct Oracle {
  std::size_t window;
  long double z;
  std::vector<long double> values;

  std::optional<long double> limit() const {
    if (values.size() < window) return std::nullopt;
    long double mean = 0, variance = 0;
    const auto last = values.end() - static_cast<std::ptrdiff_t>(window);
    for (auto value = last; value != values.end(); ++value) mean += *value / window;
    for (auto value = last; value != values.end(); ++value) {
      variance += (*value - mean) * (*value - mean) / window;
    }
    return mean + z * std::sqrt(variance);
  }
};

TEST(StepGuard, LimitsAreMeanAndDeviationsOfTheLastUpdates) {
  constexpr std::int64_t kTokens = 128;
  const StepGuard guard(
      guard_options({"--loss-spike-z=2.5", "--norm-spike-z=4", "--spike-window=6"}), kTokens);
  GuardState state;
  Oracle loss{6, 2.5L, {}}, norm{6, 4, {}};
  int outliers = 0, wrong = 0;
  for (std::int64_t step = 1; step <= 300; ++step) {
    const UpdateLimits limits = guard.limits(state);
    const auto loss_limit = loss.limit(), norm_limit = norm.limit();
    if (loss_limit) {
      EXPECT_NEAR(limits.loss_sum, static_cast<double>(*loss_limit * kTokens), 1e-9);
      EXPECT_NEAR(limits.grad_square_sum, static_cast<double>(*norm_limit * *norm_limit), 1e-9);
    } else {
      EXPECT_EQ(limits.loss_sum, UpdateLimits::kNone);
      EXPECT_EQ(limits.grad_square_sum, UpdateLimits::kNone);
    }
    const auto n = static_cast<std::uint64_t>(step);
    double x = 3 + 0.1 * random_number(1, n), y = 1 + 0.2 * random_number(2, n);
    if (step % 17 == 0) (step % 2 == 0 ? x : y) *= 2;
    if (step % 29 == 0) (step % 2 == 0 ? x : y) = step % 3 == 0 ? kNan : kInfinity;
    const bool is_right = x <= loss_limit.value_or(1e9L) && y <= norm_limit.value_or(1e9L);
    const bool updated =
        is_within(limits, static_cast<float>(x * kTokens), static_cast<float>(y * y));
    EXPECT_EQ(updated, is_right) << "step " << step << ": " << x << ", " << y;
    guard.judge(state, {.number = step, .loss = x, .gradient_norm = y, .updated = updated});
    if (is_right) {
      loss.values.push_back(x);
      norm.values.push_back(y);
      EXPECT_EQ(state.refused_in_row, 0);
    } else {
      ++(std::isfinite(x) && std::isfinite(y) ? outliers : wrong);
    }
  }
  EXPECT_EQ(state.skipped_steps, 300 - std::ssize(loss.values));
  EXPECT_GT(outliers, 10);
  EXPECT_GT(wrong, 5);
  EXPECT_EQ(state.losses.size(), 6u);
}

TEST(StepGuard, EqualValuesAreNoOutliers) {
  const StepGuard guard(guard_options({"--loss-spike-z=3", "--spike-window=7"}), 1);
  GuardState state;
  state.losses.assign(7, 0.1);
  EXPECT_EQ(guard.limits(state).loss_sum, 0.1);
}

TEST(StepGuard, NoLimitIsInfinite) {
  const StepGuard guard(
      guard_options({"--loss-spike-z=1e308", "--norm-spike-z=1e308", "--spike-window=2"}), 1000);
  GuardState state;
  state.losses = {1, 1e3};
  state.gradient_norms = {1, 1e3};
  EXPECT_FALSE(is_within(guard.limits(state), std::numeric_limits<float>::infinity(), 1));
  EXPECT_FALSE(is_within(guard.limits(state), 1, std::numeric_limits<float>::infinity()));
  EXPECT_TRUE(is_within(guard.limits(state), 1e30f, 1e30f));
}

TEST(StepGuard, AShorterWindowForgetsTheOldest) {
  GuardState state;
  state.losses = {9, 9, 9, 1, 2, 3};
  const StepGuard guard(guard_options({"--loss-spike-z=3", "--spike-window=3"}), 1);
  guard.judge(state, {.number = 7, .loss = 4, .gradient_norm = 1, .updated = true});
  EXPECT_EQ(state.losses, (std::vector<double>{2, 3, 4}));
}

// A row ends when the step that was refused is behind, not when the steps before it come again.
TEST(StepGuard, ARowOfRollbacksEndsBehindTheStepThatWasRefused) {
  const StepGuard guard(guard_options({"--on-nonfinite=rollback", "--max-skips=3"}), 1);
  GuardState state;
  const auto judge = [&](std::int64_t step, bool updated) {
    return guard.judge(
        state,
        {.number = step, .loss = updated ? 1 : kNan, .gradient_norm = 1, .updated = updated});
  };
  EXPECT_EQ(judge(6, false), Verdict::rollback);
  for (const std::int64_t step : {3, 4, 5}) EXPECT_EQ(judge(step, true), Verdict::updated);
  EXPECT_EQ(judge(6, false), Verdict::rollback);
  EXPECT_EQ(judge(4, false), Verdict::rollback);
  EXPECT_EQ(state.refused_in_row, 3);
  EXPECT_TRUE(guard.gives_up(state));
  judge(5, true);
  EXPECT_TRUE(guard.gives_up(state));
  judge(6, true);
  EXPECT_EQ(state.refused_in_row, 0);
  EXPECT_EQ(state.rollbacks, 3);
  EXPECT_EQ(state.skipped_steps, 0);
}

// ---- Values put into everything that a step computes

// One output of one operation of a step.
struct Place {
  int operation;  // in the order in which they run, of all micro-steps
  std::size_t output;
  std::string name;
  std::int64_t elements;
};

// Lists the outputs of a step or puts a value into one of them.
class Poison final : public OutputObserver {
 public:
  Poison(Backend& backend, OutputObserver* next) : backend_(backend), next_(next) {}

  void start(const Place* place, float value) {
    place_ = place;
    value_ = value;
    operation_ = 0;
    places.clear();
  }

  void observe(const OperationOutputs& operation) override {
    const std::vector<OutputTensor>& written = operation.outputs.written;
    for (std::size_t i = 0; i < written.size(); ++i) {
      places.push_back({operation_, i, fmt::format("{}.{}", operation.name, written[i].name),
                        written[i].tensor.count()});
    }
    if (place_ != nullptr && place_->operation == operation_) put(written[place_->output].tensor);
    ++operation_;
    if (next_ != nullptr) next_->observe(operation);
  }

  std::vector<Place> places;

 private:
  void put(const Tensor& tensor) {
    const auto element =
        static_cast<std::int64_t>(random_number(9, static_cast<std::uint64_t>(operation_)) *
                                  static_cast<double>(tensor.count()));
    const Tensor flat = tensor.view({tensor.count()}).slice(element, 1);
    const Bf16 narrow = to_bf16(value_);
    backend_.upload(flat, tensor.type() == DType::bf16 ? static_cast<const void*>(&narrow)
                                                       : static_cast<const void*>(&value_));
  }

  Backend& backend_;
  OutputObserver* next_;
  const Place* place_ = nullptr;
  float value_ = 0;
  int operation_ = 0;
};

TestModel::Spec model_spec(DType precision, Recompute recompute) {
  return {.config = {.layers = 2, .heads = 2, .channels = 8, .context = 8, .vocab = kVocab},
          .options = {.micro_batch = 2,
                      .seq_len = 7,
                      .precision = precision,
                      .recompute = recompute,
                      .training = true,
                      .most_logits = 5 * kVocab}};  // so that there are chunks of them
}

// A run of a model, step by step, as a trainer makes it.
class GuardedRun {
 public:
  GuardedRun(DType precision, Recompute recompute)
      : model_(model_spec(precision, recompute)),
        guard_(guard_options({"--loss-spike-z=6", "--norm-spike-z=6", "--spike-window=4"}), 28) {
    model_.initialize(1);
  }

  // On the batch of that number, with two micro-steps. Whether the weights were updated.
  bool step(std::uint64_t batch) {
    const RandomTokens tokens(4, 7, kVocab, batch);
    const double loss = model_.forward_backward(tokens.batch(), std::vector<std::int64_t>{2, 2});
    ++number_;
    const AdamW::Sums sums =
        model_.update(number_ - state_.skipped_steps, 1e-2, guard_.limits(state_));
    guard_.judge(state_, {.number = number_,
                          .loss = loss,
                          .gradient_norm = sums.gradient_norm,
                          .updated = sums.updated});
    return sums.updated;
  }

  // Weights and moments.
  std::vector<std::byte> bytes() {
    std::vector<std::byte> all;
    for (const Tensor& tensor : tensors()) {
      const auto more = to_bytes(model_.backend(), tensor);
      all.insert(all.end(), more.begin(), more.end());
    }
    return all;
  }
  bool is_finite() {
    for (const Tensor& tensor : tensors()) {
      for (const float value : to_floats(model_.backend(), tensor)) {
        if (!std::isfinite(value)) return false;
      }
    }
    return true;
  }

  // The weights and moments of another.
  void take(GuardedRun& other) {
    const std::vector<Tensor> from = other.tensors(), to = tensors();
    for (std::size_t i = 0; i < to.size(); ++i) {
      if (!to[i].empty()) {
        model_.backend().upload(to[i], to_bytes(other.model_.backend(), from[i]).data());
      }
    }
    state_ = other.state_;
    number_ = other.number_;
  }

  TestModel& model() { return model_; }
  const GuardState& state() const { return state_; }

 private:
  std::vector<Tensor> tensors() {
    const AdamW& adamw = model_.adamw();
    return {model_.model().parameters(), adamw.m(), adamw.v(), adamw.master()};
  }

  TestModel model_;
  StepGuard guard_;
  GuardState state_;
  std::int64_t number_ = 0;
};

class Poisoned : public testing::TestWithParam<DType> {};

// Into every output of every operation of a step, one after another. NaN always ends in the loss or
// the norm. An infinity need not: the exponential of one is 0. The other run never sees those
// steps.
TEST_P(Poisoned, StepsNeverReachTheWeights) {
  GuardedRun run(GetParam(), Recompute::none), other(GetParam(), Recompute::none);
  Poison poison(run.model().backend(), /*next=*/nullptr);
  run.model().backend().set_observer(&poison);
  for (std::uint64_t batch = 1; batch <= 5; ++batch) {
    poison.start(nullptr, 0);
    ASSERT_TRUE(run.step(batch) && other.step(batch));
  }
  const std::vector<Place> places = poison.places;
  ASSERT_GT(places.size(), 100u);
  int refused = 0, made = 0;
  std::uint64_t batch = 5;
  for (const double value : {kNan, kInfinity, -kInfinity}) {
    for (const Place& place : places) {
      if (place.name.starts_with("adamw_update")) continue;  // the weights themselves
      SCOPED_TRACE(fmt::format("{} in {}, operation {}", value, place.name, place.operation));
      const std::vector<std::byte> before = run.bytes();
      const GuardState state = run.state();
      poison.start(&place, static_cast<float>(value));
      const bool updated = run.step(++batch);
      ASSERT_EQ(run.bytes() != before, updated);
      ASSERT_TRUE(run.is_finite());
      ASSERT_FALSE(updated && std::isnan(value));
      if (updated) {
        run.take(other);
        continue;
      }
      ++refused;
      ASSERT_EQ(run.state().losses, state.losses);
      ASSERT_EQ(run.state().gradient_norms, state.gradient_norms);
      poison.start(nullptr, 0);
      ++batch;
      const bool goes_on = run.step(batch);
      ASSERT_EQ(other.step(batch), goes_on);
      ASSERT_EQ(run.bytes(), other.bytes());
      made += goes_on;
    }
  }
  EXPECT_GE(refused, 2 * std::ssize(places));
  EXPECT_GE(made, refused / 2);
}

INSTANTIATE_TEST_SUITE_P(Types, Poisoned, testing::Values(DType::fp32, DType::bf16),
                         [](const auto& test_case) { return to_string(test_case.param); });

}  // namespace
}  // namespace lathe::test
