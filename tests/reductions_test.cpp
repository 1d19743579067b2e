// Sums against float64, and moves of elements, which are exact.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "lathe/backend.h"
#include "support/compare.h"
#include "support/device_tensors.h"
#include "support/test_device.h"

namespace lathe::test {
namespace {

constexpr std::int64_t kCounts[] = {1, 7, 16384, 16385, 100003};
constexpr std::int64_t kLong = 4200007;  // for which chunks grow

// Double inside: the one rounding to fp32 at the end is all that may be lost.
constexpr double kOneRounding = 0x1p-24;

void expect_sum_of_squares(std::int64_t count) {
  auto backend = make_test_backend();
  const std::vector<float> values = normal_floats(count, 1);
  double expected = 0;
  for (const float value : values) expected += double{value} * value;
  const auto sum_of = [&](const DeviceTensor& x) {
    const auto out = zeros(*backend, DType::fp32, {1});
    backend->run(SumOfSquares{.out = out, .x = x});
    return to_floats(*backend, out);
  };
  const auto sum = sum_of(to_device(*backend, DType::fp32, {count}, values));
  EXPECT_TRUE(near_each(sum, std::vector{expected}, 0, kOneRounding)) << count;
  // The order is a function of the count alone.
  EXPECT_EQ(sum_of(to_device_misaligned(*backend, DType::fp32, {count}, values)), sum) << count;
}

TEST(SumOfSquares, IsRoundedOnce) {
  for (const std::int64_t count : kCounts) expect_sum_of_squares(count);
  expect_sum_of_squares(kLong);
}

// Squares beyond fp32's range, and a tail too small for an fp32 sum.
TEST(SumOfSquares, DoesNotOverflowInside) {
  auto backend = make_test_backend();
  const auto out = zeros(*backend, DType::fp32, {1});
  const std::vector<float> tiny(4, 1e-30f);
  backend->run(SumOfSquares{.out = out, .x = to_device(*backend, DType::fp32, {4}, tiny)});
  EXPECT_EQ(to_floats(*backend, out)[0], 0.0f);  // 4e-60: not a float
  const std::vector<float> huge(4, 1e20f);
  backend->run(SumOfSquares{.out = out, .x = to_device(*backend, DType::fp32, {4}, huge)});
  EXPECT_TRUE(std::isinf(to_floats(*backend, out)[0]));  // 4e40: not a float, and not hidden
}

TEST(Sum, IsRoundedOnceAndAdds) {
  auto backend = make_test_backend();
  for (const std::int64_t count : kCounts) {
    const std::vector<float> values = normal_floats(count, 2);
    const auto x = to_device(*backend, DType::fp32, {count}, values);
    for (const bool accumulate : {false, true}) {
      const auto out = to_device(*backend, DType::fp32, {1}, std::vector{5.0f});
      backend->run(Sum{.out = out, .x = x, .accumulate = accumulate});
      double expected = accumulate ? 5 : 0;
      for (const float value : values) expected += value;
      EXPECT_TRUE(near_each(to_floats(*backend, out), std::vector{expected}, 1e-12, kOneRounding));
    }
  }
}

TEST(Reductions, NanIsNotLost) {
  auto backend = make_test_backend();
  const auto out = zeros(*backend, DType::fp32, {1});
  for (const std::size_t place : {0, 5, 40000}) {
    std::vector<float> values = normal_floats(40001, 1);
    values[place] = std::numeric_limits<float>::quiet_NaN();
    const auto x = to_device(*backend, DType::fp32, {40001}, values);
    backend->run(SumOfSquares{.out = out, .x = x});
    EXPECT_TRUE(std::isnan(to_floats(*backend, out)[0]));
    backend->run(Sum{.out = out, .x = x, .accumulate = false});
    EXPECT_TRUE(std::isnan(to_floats(*backend, out)[0]));
  }
}

TEST(Convert, RoundsToNearestEvenAndBack) {
  auto backend = make_test_backend();
  for (const std::int64_t count : kCounts) {
    std::vector<float> values = normal_floats(count, 3);
    values[0] = 1.0f + 0x1p-8f;  // halfway: to even, which is 1
    for (const DType from : {DType::fp32, DType::bf16}) {
      for (const DType to : {DType::fp32, DType::bf16}) {
        const std::vector<float> expected = rounded_to(to, rounded_to(from, values));
        const std::vector<float> dirt(values.size(), -1.0f);
        const auto x = to_device(*backend, from, {count}, values);
        const auto out = to_device(*backend, to, {count}, dirt);
        backend->run(Convert{.out = out, .x = x});
        EXPECT_EQ(to_floats(*backend, out), expected);
        if (to == DType::bf16) {
          EXPECT_EQ(to_floats(*backend, out)[0], 1.0f);
        }
        const auto later_x = to_device_misaligned(*backend, from, {count}, values);
        const auto later_out = to_device_misaligned(*backend, to, {count}, dirt);
        backend->run(Convert{.out = later_out, .x = x});
        EXPECT_EQ(to_floats(*backend, later_out), expected);
        backend->run(Convert{.out = out, .x = later_x});
        EXPECT_EQ(to_floats(*backend, out), expected);
      }
    }
  }
}

TEST(Convert, KeepsInfinityAndNan) {
  auto backend = make_test_backend();
  const float infinity = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> values(33, 1.0f);
  values[3] = infinity;
  values[17] = nan;
  values[32] = -nan;
  values[4] = std::numeric_limits<float>::max();  // rounds up, out of bf16's range
  const auto out = zeros(*backend, DType::bf16, {33});
  backend->run(Convert{.out = out, .x = to_device(*backend, DType::fp32, {33}, values)});
  const std::vector<float> converted = to_floats(*backend, out);
  EXPECT_EQ(converted[3], infinity);
  EXPECT_EQ(converted[4], infinity);
  EXPECT_TRUE(std::isnan(converted[17]) && std::isnan(converted[32]));
}

TEST(Fill, ReachesEveryElement) {
  auto backend = make_test_backend();
  for (const std::int64_t count : kCounts) {
    for (const DType type : {DType::fp32, DType::bf16}) {
      const std::vector<float> zero(static_cast<std::size_t>(count), 0.0f);
      const auto out = to_device(*backend, type, {count}, zero);
      const auto later_out = to_device_misaligned(*backend, type, {count}, zero);
      for (const Tensor& filled : {out.tensor(), later_out.tensor()}) {
        backend->run(Fill{.out = filled, .value = -1.5f});
        EXPECT_EQ(to_floats(*backend, filled), std::vector<float>(zero.size(), -1.5f));
      }
    }
  }
}

}  // namespace
}  // namespace lathe::test
