#include "../kernels/cpu/vector_math.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace lathe::test {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

TEST(FastExp, IsWithinTwoUnitsInTheLastPlace) {
  for (float x = -86.9f; x < 88.7f; x += 0.00037f) {
    const double expected = std::exp(static_cast<double>(x));
    const auto rounded = static_cast<float>(expected);
    const double unit = std::nextafter(rounded, kInfinity) - rounded;
    ASSERT_LE(std::abs(fast_exp(x) - expected), 2 * unit) << "at " << x;
  }
}

TEST(FastExp, IsExactAtTheEnds) {
  EXPECT_EQ(fast_exp(0.0f), 1.0f);
  EXPECT_EQ(fast_exp(-0.0f), 1.0f);
  for (const float x : {-87.4f, -104.0f, -1e30f, -kInfinity}) EXPECT_EQ(fast_exp(x), 0.0f) << x;
  for (const float x : {88.73f, 1e30f, kInfinity}) EXPECT_EQ(fast_exp(x), kInfinity) << x;
  EXPECT_TRUE(std::isnan(fast_exp(std::numeric_limits<float>::quiet_NaN())));
}

}  // namespace
}  // namespace lathe::test
