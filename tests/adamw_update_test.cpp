// The AdamW operation: ten steps against a float64 AdamW, clipping, decay ranges, bf16 masters.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "lathe/backend.h"
#include "support/compare.h"
#include "support/device_tensors.h"
#include "support/reference.h"
#include "support/test_device.h"

namespace lathe::test {
namespace {

using reference::Doubles;
using reference::widen;

constexpr std::int64_t kSteps = 10;
const reference::AdamW kOptions{.learning_rate = 1e-3,
                                .beta1 = 0.9,
                                .beta2 = 0.95,
                                .eps = 1e-8,
                                .weight_decay = 0.1,
                                .grad_clip = 0};

struct Case {
  std::int64_t count;
  std::vector<ElementRange> decayed;
  double grad_clip;
  DType type;
  bool misaligned = false;
};

std::vector<float> gradient_of_step(std::int64_t count, std::int64_t step) {
  return normal_floats(count, static_cast<std::uint64_t>(100 + step), 0.1f);
}

// A run of the operation on memory of its own.
class Optimizer {
 public:
  Optimizer(const Case& c, const std::vector<float>& start)
      : case_(c),
        parameter_(place(c.type, start)),
        m_(place(DType::fp32, std::vector<float>(start.size(), 0.0f))),
        v_(place(DType::fp32, std::vector<float>(start.size(), 0.0f))),
        square_sum_(zeros(*backend_, DType::fp32, {1})),
        loss_sum_(zeros(*backend_, DType::fp32, {1})) {
    if (c.type == DType::bf16) master_ = place(DType::fp32, start);
  }

  void step(const std::vector<float>& gradient, std::int64_t step,
            const UpdateLimits& limits = {}) {
    const auto device_gradient = place(DType::fp32, gradient);
    backend_->run(SumOfSquares{.out = square_sum_, .x = device_gradient});
    backend_->run(AdamWUpdate{.parameter = parameter_,
                              .master = master_,
                              .m = m_,
                              .v = v_,
                              .gradient = device_gradient,
                              .grad_square_sum = square_sum_,
                              .loss_sum = loss_sum_,
                              .decayed = case_.decayed,
                              .limits = limits,
                              .step = step,
                              .learning_rate = kOptions.learning_rate,
                              .beta1 = kOptions.beta1,
                              .beta2 = kOptions.beta2,
                              .eps = kOptions.eps,
                              .weight_decay = kOptions.weight_decay,
                              .grad_clip = case_.grad_clip});
  }

  void set_loss_sum(float value) { backend_->upload(loss_sum_, &value); }

  std::vector<float> parameter() { return to_floats(*backend_, parameter_); }
  std::vector<float> master() {
    return to_floats(*backend_, case_.type == DType::bf16 ? master_ : parameter_);
  }
  auto state() { return std::make_tuple(parameter(), master(), m(), v()); }
  std::vector<float> m() { return to_floats(*backend_, m_); }
  std::vector<float> v() { return to_floats(*backend_, v_); }

 private:
  DeviceTensor place(DType type, const std::vector<float>& values) {
    return case_.misaligned ? to_device_misaligned(*backend_, type, {case_.count}, values)
                            : to_device(*backend_, type, {case_.count}, values);
  }

  const Case& case_;
  std::unique_ptr<Backend> backend_ = make_test_backend();
  DeviceTensor parameter_, master_, m_, v_, square_sum_, loss_sum_;
};

class AdamWUpdateOf : public testing::TestWithParam<Case> {};

TEST_P(AdamWUpdateOf, TenStepsMatchFloat64) {
  const Case& c = GetParam();
  const std::vector<float> start = normal_floats(c.count, 1);
  const auto count = static_cast<std::size_t>(c.count);
  std::vector<bool> decays(count, false);
  for (const ElementRange& range : c.decayed) {
    for (std::int64_t i = range.begin; i < range.end; ++i) {
      decays[static_cast<std::size_t>(i)] = true;
    }
  }
  reference::AdamW options = kOptions;
  options.grad_clip = c.grad_clip;
  reference::AdamWState expected{
      .parameter = widen(start), .m = Doubles(count), .v = Doubles(count)};
  Optimizer optimizer(c, start);
  for (std::int64_t step = 1; step <= kSteps; ++step) {
    const std::vector<float> gradient = gradient_of_step(c.count, step);
    optimizer.step(gradient, step);
    reference::adamw(expected, widen(gradient), decays, options, step);
  }
  // Ten roundings of a parameter to fp32, 2^-24 each, and 1e-6 of each update of 1e-3.
  EXPECT_TRUE(near_each(optimizer.master(), expected.parameter, 2e-8, 10 * 0x1p-24));
  EXPECT_TRUE(near_in_norm(optimizer.m(), expected.m, 5e-7));
  EXPECT_TRUE(near_in_norm(optimizer.v(), expected.v, 5e-7));
  EXPECT_EQ(optimizer.parameter(), rounded_to(c.type, optimizer.master()));
}

// More ranges than one launch takes; the borders of launches lie within a range and a pack.
std::vector<ElementRange> many_ranges() {
  std::vector<ElementRange> ranges;
  for (std::int64_t i = 0; i < 500; ++i) ranges.push_back({6 * i + 2, 6 * i + (i % 3 ? 8 : 3)});
  return ranges;
}

// Sizes around the blocks in which the kernel works, ranges that start and end anywhere.
std::vector<Case> cases() {
  std::vector<Case> result;
  for (const DType type : {DType::fp32, DType::bf16}) {
    for (const double clip : {0.0, 1.0, 1e6}) {
      result.push_back({1, {}, clip, type});
      result.push_back({1, {{0, 1}}, clip, type});
      result.push_back({100, {{0, 3}, {3, 50}, {99, 100}}, clip, type});
      result.push_back({70001, {{5, 32768}, {32769, 40000}, {65535, 70000}}, clip, type});
    }
    result.push_back({3010, many_ranges(), 1.0, type});
    result.push_back({2049, {{3, 1026}, {1027, 2048}}, 1.0, type, /*misaligned=*/true});
  }
  return result;
}

INSTANTIATE_TEST_SUITE_P(Cases, AdamWUpdateOf, testing::ValuesIn(cases()),
                         [](const auto& test_case) {
                           return fmt::format("{}values{}ranges{}clip{}", test_case.param.count,
                                              test_case.param.decayed.size(),
                                              test_case.param.grad_clip,
                                              to_string(test_case.param.type));
                         });

// A step whose norm or loss is not finite changes nothing: neither parameters nor moments.
TEST(AdamWUpdateValues, WhatIsNotFiniteReachesNothing) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const std::vector<float> fine = {0.1f, 0.2f, 0.1f, 0.1f};
  for (const DType type : {DType::fp32, DType::bf16}) {
    const Case c{4, {{0, 4}}, 1.0, type};
    Optimizer optimizer(c, {1, 2, 3, 4});
    optimizer.step(fine, 1);
    const auto before = optimizer.state();
    const auto expect_unchanged = [&] { EXPECT_EQ(optimizer.state(), before); };
    for (const float bad : {kNan, kInfinity, -kInfinity, 1e30f}) {  // 1e30 squared is infinite
      optimizer.step({0.1f, bad, 0.1f, 0.1f}, 2);
      expect_unchanged();
    }
    for (const float bad : {kNan, kInfinity, -kInfinity}) {
      optimizer.set_loss_sum(bad);
      optimizer.step(fine, 2);
      expect_unchanged();
    }
    optimizer.set_loss_sum(1);
    optimizer.step(fine, 2);
    EXPECT_NE(optimizer.parameter(), std::get<0>(before));
  }
}

// A limit is the most that is let in, exactly: one of fp32's next numbers above it is too much.
TEST(AdamWUpdateValues, WhatIsAboveALimitReachesNothing) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const std::vector<float> gradient = {0.5f, 1, 0.5f, 0};  // of squares 1.5
  for (const DType type : {DType::fp32, DType::bf16}) {
    const Case c{4, {{0, 4}}, 0.0, type};
    Optimizer optimizer(c, {1, 2, 3, 4});
    optimizer.set_loss_sum(20);
    const auto before = optimizer.state();
    optimizer.step(gradient, 1, {.loss_sum = std::nextafter(20.0f, 0.0f)});
    optimizer.step(gradient, 1, {.grad_square_sum = std::nextafter(1.5f, 0.0f)});
    optimizer.step(gradient, 1, {.loss_sum = 1e9, .grad_square_sum = 1.49});
    optimizer.step(gradient, 1, {.loss_sum = 19.99, .grad_square_sum = 1e9});
    EXPECT_EQ(optimizer.state(), before);
    optimizer.set_loss_sum(kInfinity);  // no limit lets this in
    optimizer.step(gradient, 1, {.loss_sum = 1e300, .grad_square_sum = 1e300});
    EXPECT_EQ(optimizer.state(), before);
    optimizer.set_loss_sum(20);
    optimizer.step(gradient, 1, {.loss_sum = 20, .grad_square_sum = 1.5});
    EXPECT_NE(optimizer.parameter(), std::get<0>(before));
  }
}

// v of 1e-30 and no gradient: eps keeps the quotient finite.
TEST(AdamWUpdateValues, ZeroGradientLeavesTheParameter) {
  const Case c{20, {}, 1.0, DType::fp32};
  const std::vector<float> start = normal_floats(20, 1);
  Optimizer optimizer(c, start);
  optimizer.step(std::vector<float>(20, 0.0f), 1);
  EXPECT_EQ(optimizer.parameter(), start);
}

// Decoupled: with no gradient a decayed parameter shrinks by the factor 1 - lr * decay.
TEST(AdamWUpdateValues, DecayShrinksItsRangeAlone) {
  const std::vector<float> start(40, 2.0f);
  const Case c{40, {{10, 30}}, 0.0, DType::fp32};
  Optimizer optimizer(c, start);
  optimizer.step(std::vector<float>(40, 0.0f), 1);
  const std::vector<float> after = optimizer.parameter();
  for (std::size_t i = 0; i < 40; ++i) {
    EXPECT_FLOAT_EQ(after[i], i >= 10 && i < 30 ? 2.0f * (1 - 1e-4f) : 2.0f) << i;
  }
}

}  // namespace
}  // namespace lathe::test
