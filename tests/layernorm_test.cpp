// LayerNorm against float64 loops, and its gradients against central differences of those loops.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <tuple>

#include "lathe/backend.h"
#include "support/compare.h"
#include "support/device_tensors.h"
#include "support/reference.h"
#include "support/test_device.h"
#include "support/tolerances.h"

namespace lathe::test {
namespace {

using reference::Doubles;
using reference::widen;

constexpr double kArithmetic = 2e-6;  // sums of up to 1000 fp32 terms in several partial sums

struct Shape {
  std::int64_t N, C;
  DType type;
};

struct Inputs {
  std::vector<float> x, gain, bias, d_out, d_residual;
};

Inputs random_inputs(const Shape& s, float offset = 0.5f) {
  const auto make = [&](std::int64_t count, std::uint64_t seed) {
    std::vector<float> values = normal_floats(count, seed);
    for (float& value : values) value += offset;
    return rounded_to(s.type, std::move(values));
  };
  return {.x = make(s.N * s.C, 1),
          .gain = make(s.C, 2),
          .bias = make(s.C, 3),
          .d_out = make(s.N * s.C, 4),
          .d_residual = make(s.N * s.C, 5)};
}

struct Outputs {
  std::vector<float> out, mean, rstd, d_x, d_gain, d_bias;
};

enum class Residual { absent, apart, in_place };

enum class Operand { none, out, x, gain, bias, d_x, d_out, d_residual };

struct Options {
  Residual residual = Residual::absent;
  bool accumulate = false;
  Operand misaligned = Operand::none;
};
constexpr float kBefore = 3.0f;  // in d_gain and d_bias when they are added to
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();  // when they are written

Outputs run_layernorm(const Shape& s, const Inputs& in, Options options) {
  auto backend = make_test_backend();
  const std::vector<float> dirt(in.x.size(), kNan);
  const auto place = [&](Operand operand, const std::vector<float>& values) {
    const std::int64_t C = s.C, N = static_cast<std::int64_t>(values.size()) / C;
    const auto make = [&](std::initializer_list<std::int64_t> shape) {
      return options.misaligned == operand ? to_device_misaligned(*backend, s.type, shape, values)
                                           : to_device(*backend, s.type, shape, values);
    };
    return operand == Operand::gain || operand == Operand::bias ? make({C}) : make({N, C});
  };
  const auto x = place(Operand::x, in.x), d_out = place(Operand::d_out, in.d_out);
  const auto d_residual = place(Operand::d_residual, in.d_residual);
  const auto gain = place(Operand::gain, in.gain), bias = place(Operand::bias, in.bias);
  const auto out = place(Operand::out, dirt), own_d_x = place(Operand::d_x, dirt);
  const auto mean = zeros(*backend, DType::fp32, {s.N});
  const auto rstd = zeros(*backend, DType::fp32, {s.N});
  const std::vector<float> before(static_cast<std::size_t>(s.C),
                                  options.accumulate ? kBefore : kNan);
  const auto d_gain = to_device(*backend, DType::fp32, {s.C}, before);
  const auto d_bias = to_device(*backend, DType::fp32, {s.C}, before);
  const Tensor d_x = options.residual == Residual::in_place ? d_residual : own_d_x;

  backend->run(
      LayerNormForward{.out = out, .mean = mean, .rstd = rstd, .x = x, .gain = gain, .bias = bias});
  backend->run(
      LayerNormBackward{.d_x = d_x,
                        .d_gain = d_gain,
                        .d_bias = d_bias,
                        .d_out = d_out,
                        .d_residual = options.residual == Residual::absent ? Tensor() : d_residual,
                        .x = x,
                        .gain = gain,
                        .mean = mean,
                        .rstd = rstd,
                        .accumulate = options.accumulate});
  return {.out = to_floats(*backend, out),
          .mean = to_floats(*backend, mean),
          .rstd = to_floats(*backend, rstd),
          .d_x = to_floats(*backend, d_x),
          .d_gain = to_floats(*backend, d_gain),
          .d_bias = to_floats(*backend, d_bias)};
}

class LayerNormAt : public testing::TestWithParam<std::tuple<std::int64_t, std::int64_t, DType>> {
 protected:
  Shape shape() const {
    return {std::get<0>(GetParam()), std::get<1>(GetParam()), std::get<2>(GetParam())};
  }
};

void expect_loops(const Shape& shape, Options options) {
  const Inputs in = random_inputs(shape);
  const reference::LayerNorm forward =
      reference::layernorm(widen(in.x), widen(in.gain), widen(in.bias));
  const reference::LayerNormGradients gradients =
      reference::layernorm_gradients(widen(in.d_out), widen(in.x), widen(in.gain));
  const double tolerance = kArithmetic + rounding_in_norm(shape.type, in.x.size());
  const Outputs outputs = run_layernorm(shape, in, options);
  EXPECT_TRUE(near_in_norm(outputs.out, forward.out, tolerance));
  EXPECT_TRUE(near_each(outputs.mean, forward.mean, kArithmetic, 0));
  EXPECT_TRUE(near_each(outputs.rstd, forward.rstd, 0, kArithmetic));
  Doubles d_x = gradients.d_x, d_gain = gradients.d_gain, d_bias = gradients.d_bias;
  for (std::size_t i = 0; i < d_x.size(); ++i) {
    if (options.residual != Residual::absent) d_x[i] += in.d_residual[i];
  }
  for (std::size_t c = 0; c < d_gain.size() && options.accumulate; ++c) {
    d_gain[c] += kBefore;
    d_bias[c] += kBefore;
  }
  // One channel is its own mean: everything but the residual cancels to zero.
  if (shape.C > 1) {
    EXPECT_TRUE(near_in_norm(outputs.d_x, d_x, tolerance));
  }
  EXPECT_TRUE(near_in_norm(outputs.d_gain, d_gain, kArithmetic));
  EXPECT_TRUE(near_in_norm(outputs.d_bias, d_bias, kArithmetic));
}

TEST_P(LayerNormAt, MatchesLoops) {
  expect_loops(shape(), {.residual = Residual::absent, .accumulate = false});
  expect_loops(shape(), {.residual = Residual::apart, .accumulate = true});
  expect_loops(shape(), {.residual = Residual::in_place, .accumulate = false});
}

std::string shape_name(
    const testing::TestParamInfo<std::tuple<std::int64_t, std::int64_t, DType>>& info) {
  const auto [N, C, type] = info.param;
  return fmt::format("N{}C{}{}", N, C, to_string(type));
}

INSTANTIATE_TEST_SUITE_P(Shapes, LayerNormAt,
                         testing::Combine(testing::Values(1, 3, 19),
                                          testing::Values(1, 6, 33, 36, 96, 771),
                                          testing::Values(DType::fp32, DType::bf16)),
                         shape_name);
// Around what the lanes of a warp hold in 16 bytes each, once to seven times, and beyond.
INSTANTIATE_TEST_SUITE_P(PacksOfFp32, LayerNormAt,
                         testing::Combine(testing::Values(6),
                                          testing::Values(128, 132, 264, 640, 896, 904),
                                          testing::Values(DType::fp32)),
                         shape_name);
INSTANTIATE_TEST_SUITE_P(PacksOfBf16, LayerNormAt,
                         testing::Combine(testing::Values(6),
                                          testing::Values(256, 264, 640, 1024, 1600, 1800),
                                          testing::Values(DType::bf16)),
                         shape_name);

// More rows than any kernel has warps for them, and not a multiple.
TEST(LayerNorm, TakesManyRows) {
  const Options options{.residual = Residual::in_place, .accumulate = true};
  expect_loops({.N = 2201, .C = 7, .type = DType::fp32}, options);
  expect_loops({.N = 2201, .C = 8, .type = DType::bf16}, options);
}

TEST(LayerNorm, OperandsBeginAnywhere) {
  for (const DType type : {DType::fp32, DType::bf16}) {
    for (const Operand operand : {Operand::out, Operand::x, Operand::gain, Operand::bias,
                                  Operand::d_x, Operand::d_out, Operand::d_residual}) {
      SCOPED_TRACE(static_cast<int>(operand));
      expect_loops({.N = 5, .C = 64, .type = type},
                   {.residual = Residual::apart, .accumulate = false, .misaligned = operand});
    }
  }
}

// Differences of the float64 loops: the kernel's fp32 rounding is all that is left.
TEST(LayerNormGradient, MatchesCentralDifferences) {
  const Shape shape{.N = 3, .C = 11, .type = DType::fp32};
  const Inputs in = random_inputs(shape);
  const Doubles x = widen(in.x), gain = widen(in.gain), bias = widen(in.bias);
  const Outputs outputs = run_layernorm(shape, in, {});
  const auto differences = [&](const auto& f, const Doubles& at) {
    return reference::central_differences(f, at, widen(in.d_out));
  };
  const Doubles d_x =
      differences([&](const Doubles& v) { return reference::layernorm(v, gain, bias).out; }, x);
  EXPECT_TRUE(near_in_norm(outputs.d_x, d_x, kArithmetic));
  EXPECT_TRUE(near_in_norm(
      outputs.d_gain,
      differences([&](const Doubles& v) { return reference::layernorm(x, v, bias).out; }, gain),
      kArithmetic));
  EXPECT_TRUE(near_in_norm(
      outputs.d_bias,
      differences([&](const Doubles& v) { return reference::layernorm(x, gain, v).out; }, bias),
      kArithmetic));
}

// The variance about a mean of 1000 is lost in E[x^2] - mean^2; two passes keep what the inputs'
// own rounding left: 1000 * 2^-24 against a deviation of 1.
TEST(LayerNorm, KeepsTheVarianceBesideALargeMean) {
  const Shape shape{.N = 4, .C = 768, .type = DType::fp32};
  const Inputs in = random_inputs(shape, 1000.0f);
  const Doubles ones(768, 1.0), zeros(768, 0.0);
  const reference::LayerNorm expected = reference::layernorm(widen(in.x), ones, zeros);
  EXPECT_TRUE(near_each(run_layernorm(shape, in, {}).rstd, expected.rstd, 0, 1e-5));
}

TEST(LayerNorm, NanSpoilsItsRowAlone) {
  const Shape shape{.N = 3, .C = 40, .type = DType::fp32};
  Inputs in = random_inputs(shape);
  in.x[40 + 7] = kNan;
  const Outputs outputs = run_layernorm(shape, in, {});
  for (std::size_t i = 0; i < 120; ++i) {
    EXPECT_EQ(std::isnan(outputs.out[i]), i / 40 == 1) << i;
    EXPECT_EQ(std::isnan(outputs.d_x[i]), i / 40 == 1) << i;
  }
  for (const float d_gain : outputs.d_gain) EXPECT_TRUE(std::isnan(d_gain));
}

}  // namespace
}  // namespace lathe::test
