// Linear layers against float64 loops.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>

#include "lathe/backend.h"
#include "support/compare.h"
#include "support/device_tensors.h"
#include "support/test_device.h"

namespace lathe::test {
namespace {

using Doubles = std::vector<double>;

// What rounding explains, against float64 loops over the same stored inputs. Inputs are normal, so
// the partial sums of K products grow to sqrt(K); each is rounded to 2^-24 of itself, and these
// errors add up like a random walk to about 0.4 * 2^-24 K. The worst of a million elements is six
// or seven times that (the partial sums differ too): 1.5 * 2^-23 K. bf16 sums in fp32 as well and
// rounds the result once, to 2^-8 of itself.
struct Tolerance {
  DType type;
  double absolute_per_depth;  // times K
  double relative;
};
constexpr Tolerance kFp32{DType::fp32, 0x1.8p-23, 0x1p-22};
constexpr Tolerance kBf16{DType::bf16, 0x1.8p-23, 0x1.01p-8};
constexpr Tolerance kTolerances[] = {kFp32, kBf16};

testing::AssertionResult near(const std::vector<float>& actual, const Doubles& expected,
                              const Tolerance& tolerance, std::int64_t depth) {
  return near_each(actual, expected, tolerance.absolute_per_depth * static_cast<double>(depth),
                   tolerance.relative);
}

struct Shape {
  std::int64_t N, I, O;
};

// Nothing is a multiple of a vector or tile, but for two shapes where everything is, which
// libraries take, one of them with more outputs than a warp reads at once; the last is larger than
// one tile in every direction of every product. Up to eight rows have a way of their own on the
// CPU.
constexpr Shape kShapes[] = {{1, 1, 1},      {1, 37, 53},    {2, 7, 5},     {3, 40, 33},
                             {4, 21, 2},     {7, 65, 3},     {72, 40, 136}, {150, 8, 264},
                             {130, 19, 129}, {277, 263, 301}};

std::span<const Shape> shapes() {
  return std::span(kShapes).first(std::size(kShapes) - (is_simulated() ? 1 : 0));
}

// c[i,j] = sum over k of a[i,k] b[k,j], with element strides.
struct Strided {
  const std::vector<float>& values;
  std::int64_t row, column;
  double at(std::int64_t i, std::int64_t j) const {
    return values[static_cast<std::size_t>(i * row + j * column)];
  }
};

Doubles multiply(const Strided& a, const Strided& b, std::int64_t M, std::int64_t N,
                 std::int64_t K) {
  Doubles c(static_cast<std::size_t>(M * N));
  for (std::int64_t i = 0; i < M; ++i) {
    for (std::int64_t k = 0; k < K; ++k) {
      const double factor = a.at(i, k);
      double* row = c.data() + i * N;
      for (std::int64_t j = 0; j < N; ++j) row[j] += factor * b.at(k, j);
    }
  }
  return c;
}

double gelu(double x) {
  const double u = std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x);
  return 0.5 * x * (1 + std::tanh(u));
}

double gelu_derivative(double x) {
  constexpr double kStep = 1e-6;  // central difference: error about 1e-12 + 1e-16 / 1e-6
  return (gelu(x + kStep) - gelu(x - kStep)) / (2 * kStep);
}

// Values of one layer, as its type stores them.
struct Layer {
  Layer(Shape s, DType t)
      : shape(s),
        type(t),
        x(rounded_to(t, normal_floats(s.N * s.I, 1))),
        weight(rounded_to(t, normal_floats(s.O * s.I, 2))),
        bias(rounded_to(t, normal_floats(s.O, 3))),
        residual(rounded_to(t, normal_floats(s.N * s.O, 4))),
        d_out(rounded_to(t, normal_floats(s.N * s.O, 5))),
        pre_gelu(rounded_to(t, normal_floats(s.N * s.I, 6))) {}

  Doubles product() const {
    const auto [N, I, O] = shape;
    return multiply({x, I, 1}, {weight, 1, I}, N, O, I);
  }
  Doubles d_x() const {
    const auto [N, I, O] = shape;
    return multiply({d_out, O, 1}, {weight, I, 1}, N, I, O);
  }
  Doubles d_weight() const {
    const auto [N, I, O] = shape;
    return multiply({d_out, 1, O}, {x, I, 1}, O, I, N);
  }
  Doubles d_bias() const {
    Doubles sums(static_cast<std::size_t>(shape.O));
    for (std::size_t i = 0; i < d_out.size(); ++i) sums[i % sums.size()] += d_out[i];
    return sums;
  }

  Shape shape;
  DType type;
  std::vector<float> x, weight, bias, residual, d_out, pre_gelu;
};

class Linear : public testing::Test {
 protected:
  DeviceTensor device(const std::vector<float>& values, DType type,
                      std::initializer_list<std::int64_t> shape) {
    return to_device(*backend_, type, shape, values);
  }
  std::vector<float> floats(const Tensor& tensor) { return to_floats(*backend_, tensor); }

  std::unique_ptr<Backend> backend_ = make_test_backend();
};

enum class Then { nothing, residual, residual_in_place, gelu };

struct ForwardCase {
  bool bias;
  Then then;
};
constexpr ForwardCase kForwardCases[] = {
    {false, Then::nothing}, {true, Then::nothing},           {false, Then::residual},
    {true, Then::residual}, {true, Then::residual_in_place}, {false, Then::gelu},
    {true, Then::gelu}};

class LinearForwardTest : public Linear {
 protected:
  void expect(const Layer& layer, const Doubles& product, const ForwardCase& c,
              const Tolerance& tolerance) {
    const auto [N, I, O] = layer.shape;
    const DType type = layer.type;
    const DeviceTensor x = device(layer.x, type, {N, I});
    const DeviceTensor weight = device(layer.weight, type, {O, I});
    const DeviceTensor bias = c.bias ? device(layer.bias, type, {O}) : DeviceTensor();
    const bool adds = c.then == Then::residual || c.then == Then::residual_in_place;
    const DeviceTensor residual = adds ? device(layer.residual, type, {N, O}) : DeviceTensor();
    const DeviceTensor own_out = zeros(*backend_, type, {N, O});
    const DeviceTensor pre_gelu =
        c.then == Then::gelu ? zeros(*backend_, type, {N, O}) : DeviceTensor();
    const Tensor out = c.then == Then::residual_in_place ? residual.tensor() : own_out.tensor();
    backend_->run(LinearForward{.out = out,
                                .pre_gelu = pre_gelu,
                                .x = x,
                                .weight = weight,
                                .bias = bias,
                                .residual = residual});

    Doubles y = product;
    for (std::size_t i = 0; i < y.size(); ++i) {
      if (c.bias) y[i] += layer.bias[i % layer.bias.size()];
      if (adds) y[i] += layer.residual[i];
    }
    if (c.then == Then::gelu) {
      EXPECT_TRUE(near(floats(pre_gelu), y, tolerance, I));
      for (double& value : y) value = gelu(value);
    }
    EXPECT_TRUE(near(floats(out), y, tolerance, I));
  }
};

TEST_F(LinearForwardTest, MatchesFloat64) {
  for (const Tolerance& tolerance : kTolerances) {
    for (const Shape& shape : shapes()) {
      const Layer layer(shape, tolerance.type);
      const Doubles product = layer.product();
      for (const ForwardCase& c : kForwardCases) {
        SCOPED_TRACE(testing::Message()
                     << to_string(tolerance.type) << " N " << shape.N << " I " << shape.I << " O "
                     << shape.O << " bias " << c.bias << " then " << static_cast<int>(c.then));
        expect(layer, product, c, tolerance);
      }
    }
  }
}

struct BackwardCase {
  bool d_x, d_bias, pre_gelu, accumulate;
};
constexpr BackwardCase kBackwardCases[] = {
    {.d_x = true, .d_bias = true, .pre_gelu = false, .accumulate = false},
    {.d_x = true, .d_bias = true, .pre_gelu = true, .accumulate = true},
    {.d_x = true, .d_bias = false, .pre_gelu = true, .accumulate = false},
    {.d_x = true, .d_bias = false, .pre_gelu = false, .accumulate = true},
    {.d_x = false, .d_bias = true, .pre_gelu = false, .accumulate = true},
    {.d_x = false, .d_bias = false, .pre_gelu = false, .accumulate = false},
};

class LinearBackwardTest : public Linear {
 protected:
  // Parameter gradients start with kEarlier in every element.
  void expect(const Layer& layer, Doubles d_x, const BackwardCase& c, const Tolerance& tolerance) {
    const auto [N, I, O] = layer.shape;
    const DType type = layer.type;
    const std::vector<float> d_weight_before(static_cast<std::size_t>(O * I), kEarlier);
    const std::vector<float> d_bias_before(static_cast<std::size_t>(O), kEarlier);
    const DeviceTensor d_weight = device(d_weight_before, DType::fp32, {O, I});
    const DeviceTensor d_bias = c.d_bias ? device(d_bias_before, DType::fp32, {O}) : DeviceTensor();
    const DeviceTensor d_x_out = c.d_x ? zeros(*backend_, type, {N, I}) : DeviceTensor();
    const DeviceTensor pre_gelu =
        c.pre_gelu ? device(layer.pre_gelu, type, {N, I}) : DeviceTensor();
    const DeviceTensor d_out = device(layer.d_out, type, {N, O});
    const DeviceTensor x = device(layer.x, type, {N, I});
    const DeviceTensor weight = device(layer.weight, type, {O, I});
    backend_->run(LinearBackward{.d_x = d_x_out,
                                 .d_weight = d_weight,
                                 .d_bias = d_bias,
                                 .d_out = d_out,
                                 .x = x,
                                 .weight = weight,
                                 .pre_gelu = pre_gelu,
                                 .accumulate = c.accumulate});

    if (c.pre_gelu) {
      for (std::size_t i = 0; i < d_x.size(); ++i) d_x[i] *= gelu_derivative(layer.pre_gelu[i]);
    }
    if (c.d_x) {
      EXPECT_TRUE(near(floats(d_x_out), d_x, tolerance, O)) << "d_x";
    }
    // Parameter gradients are fp32 whatever the compute type is.
    Doubles expected_d_weight = d_weight_, expected_d_bias = d_bias_;
    if (c.accumulate) {
      for (double& value : expected_d_weight) value += kEarlier;
      for (double& value : expected_d_bias) value += kEarlier;
    }
    EXPECT_TRUE(near(floats(d_weight), expected_d_weight, kFp32, N)) << "d_weight";
    if (c.d_bias) {
      EXPECT_TRUE(near(floats(d_bias), expected_d_bias, kFp32, N)) << "d_bias";
    }
  }

  static constexpr float kEarlier = 0.5f;
  Doubles d_weight_, d_bias_;
};

TEST_F(LinearBackwardTest, MatchesFloat64) {
  for (const Tolerance& tolerance : kTolerances) {
    for (const Shape& shape : shapes()) {
      const Layer layer(shape, tolerance.type);
      const Doubles d_x = layer.d_x();
      d_weight_ = layer.d_weight();
      d_bias_ = layer.d_bias();
      for (const BackwardCase& c : kBackwardCases) {
        SCOPED_TRACE(testing::Message()
                     << to_string(tolerance.type) << " N " << shape.N << " I " << shape.I << " O "
                     << shape.O << " d_x " << c.d_x << " d_bias " << c.d_bias << " pre_gelu "
                     << c.pre_gelu << " accumulate " << c.accumulate);
        expect(layer, d_x, c, tolerance);
      }
    }
  }
}

// A layer whose weight is 1 passes its input through, so that GELU stands alone.
class Gelu : public Linear {
 protected:
  Gelu() {
    for (int i = -4000; i <= 4000; ++i) inputs_.push_back(static_cast<float>(i) * 0.004f);
    for (const float x : {1e-30f, -1e-30f, 40.0f, -40.0f, 1e25f, -1e25f}) inputs_.push_back(x);
    N_ = static_cast<std::int64_t>(inputs_.size());
    x_ = device(inputs_, DType::fp32, {N_, 1});
    one_ = device({1.0f}, DType::fp32, {1, 1});
  }

  std::vector<float> inputs_;
  std::int64_t N_;
  DeviceTensor x_, one_;
};

TEST_F(Gelu, IsTheTanhForm) {
  const DeviceTensor out = zeros(*backend_, DType::fp32, {N_, 1});
  const DeviceTensor pre_gelu = zeros(*backend_, DType::fp32, {N_, 1});
  backend_->run(LinearForward{
      .out = out, .pre_gelu = pre_gelu, .x = x_, .weight = one_, .bias = {}, .residual = {}});
  EXPECT_EQ(floats(pre_gelu), inputs_);
  const std::vector<float> values = floats(out);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double x = inputs_[i];
    // About three roundings, each 2^-24 of |x|.
    ASSERT_LE(std::abs(values[i] - gelu(x)), 2e-7 * std::abs(x)) << "at " << x;
  }
}

TEST_F(Gelu, DerivativeMatchesFiniteDifferences) {
  const DeviceTensor ones = device(std::vector<float>(inputs_.size(), 1.0f), DType::fp32, {N_, 1});
  const DeviceTensor d_x = zeros(*backend_, DType::fp32, {N_, 1});
  const DeviceTensor d_weight = zeros(*backend_, DType::fp32, {1, 1});
  backend_->run(LinearBackward{.d_x = d_x,
                               .d_weight = d_weight,
                               .d_bias = {},
                               .d_out = ones,
                               .x = x_,
                               .weight = one_,
                               .pre_gelu = x_,
                               .accumulate = false});
  const std::vector<float> derivatives = floats(d_x);
  for (std::size_t i = 0; i < derivatives.size(); ++i) {
    const double x = inputs_[i];
    const double expected = std::abs(x) > 100 ? (x > 0 ? 1.0 : 0.0) : gelu_derivative(x);
    // The derivative is below 1.13, made in about four roundings.
    ASSERT_LE(std::abs(derivatives[i] - expected), 3e-7) << "at " << x;
  }
}

TEST_F(Linear, NanReachesEveryResultThatDependsOnItAndNoOther) {
  constexpr std::int64_t N = 9, I = 70, O = 33, kRow = 4, kInput = 51, kOutput = 17;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const DType type : {DType::fp32, DType::bf16}) {
    SCOPED_TRACE(to_string(type));
    Layer layer({N, I, O}, type);
    layer.x[kRow * I + kInput] = nan;
    layer.d_out[kRow * O + kOutput] = nan;
    const DeviceTensor x = device(layer.x, type, {N, I});
    const DeviceTensor weight = device(layer.weight, type, {O, I});
    const DeviceTensor d_out = device(layer.d_out, type, {N, O});
    const DeviceTensor out = zeros(*backend_, type, {N, O}), pre = zeros(*backend_, type, {N, O});
    const DeviceTensor d_x = zeros(*backend_, type, {N, I});
    const DeviceTensor d_weight = zeros(*backend_, DType::fp32, {O, I});
    const DeviceTensor d_bias = zeros(*backend_, DType::fp32, {O});
    backend_->run(LinearForward{
        .out = out, .pre_gelu = pre, .x = x, .weight = weight, .bias = {}, .residual = {}});
    backend_->run(LinearBackward{.d_x = d_x,
                                 .d_weight = d_weight,
                                 .d_bias = d_bias,
                                 .d_out = d_out,
                                 .x = x,
                                 .weight = weight,
                                 .pre_gelu = x,
                                 .accumulate = false});
    const auto expect_nan = [&](const Tensor& tensor, const auto& depends) {
      const std::vector<float> values = floats(tensor);
      const std::int64_t columns = tensor.size(-1);
      for (std::int64_t i = 0; i < tensor.count(); ++i) {
        ASSERT_EQ(std::isnan(values[static_cast<std::size_t>(i)]),
                  depends(i / columns, i % columns))
            << "row " << i / columns << " column " << i % columns;
      }
    };
    const auto in_row = [](std::int64_t row, std::int64_t) { return row == kRow; };
    expect_nan(out, in_row);
    expect_nan(pre, in_row);
    expect_nan(d_x, in_row);
    expect_nan(d_weight, [](std::int64_t output, std::int64_t input) {
      return output == kOutput || input == kInput;
    });
    expect_nan(d_bias, [](std::int64_t, std::int64_t output) { return output == kOutput; });
  }
}

}  // namespace
}  // namespace lathe::test
