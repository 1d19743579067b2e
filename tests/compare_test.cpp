// The comparers that all other tests rely on: they must be able to fail.
#include "support/compare.h"

#include <cmath>
#include <limits>
#include <vector>

namespace lathe::test {
namespace {

using Floats = std::vector<float>;
using Doubles = std::vector<double>;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

TEST(NearInNorm, BoundsTheDifference) {
  EXPECT_TRUE(near_in_norm(Floats{3, 4}, Doubles{3, 4}, 0));
  EXPECT_TRUE(near_in_norm(Floats{3, 4.5f}, Doubles{3, 4}, 0.1));
  EXPECT_FALSE(near_in_norm(Floats{3, 4.5f}, Doubles{3, 4}, 0.0999));
  EXPECT_FALSE(near_in_norm(Floats{-3, -4}, Doubles{3, 4}, 1));
  EXPECT_TRUE(near_in_norm(Floats{}, Doubles{}, 0));
}

TEST(NearInNorm, IsAbsoluteBesideZero) {
  EXPECT_TRUE(near_in_norm(Floats{0, 0.01f}, Doubles{0, 0}, 0.02));
  EXPECT_FALSE(near_in_norm(Floats{0, 0.03f}, Doubles{0, 0}, 0.02));
}

TEST(NearInRows, BoundsTheDifferenceOfEachRow) {
  const Doubles expected{30, 40, 3, 4};  // a row's norm is usually 35.5; these have 50 and 5
  EXPECT_TRUE(near_in_rows(Floats{30, 48, 3, 4}, expected, 2, 0.1));
  EXPECT_FALSE(near_in_rows(Floats{30, 49, 3, 4}, expected, 2, 0.1));
  EXPECT_TRUE(near_in_rows(Floats{30, 40, 7, 4}, expected, 2, 0.1));
  EXPECT_FALSE(near_in_rows(Floats{30, 40, 8, 4}, expected, 2, 0.1));
  EXPECT_TRUE(near_in_rows(Floats{30, 40, 8, 4}, expected, 4, 0.1));
}

TEST(NearEach, BoundsEveryElement) {
  EXPECT_TRUE(near_each(Floats{1, 100}, Doubles{1.5, 101}, 0.5, 0.005));
  EXPECT_FALSE(near_each(Floats{1, 100}, Doubles{1.6, 101}, 0.5, 0.005));
  EXPECT_FALSE(near_each(Floats{1, 100}, Doubles{1, 102}, 0.5, 0.005));
  // One wrong element among many right ones, which a norm would forgive.
  Floats actual(1000, 10.0f);
  const Doubles expected(1000, 10.0);
  actual[999] = 11;
  EXPECT_TRUE(near_in_norm(actual, expected, 0.01));
  EXPECT_FALSE(near_each(actual, expected, 0, 0.01));
}

TEST(Near, RejectsAnotherSize) {
  EXPECT_FALSE(near_in_norm(Floats{1, 2}, Doubles{1}, 100));
  EXPECT_FALSE(near_in_norm(Floats{1}, Doubles{1, 2}, 100));
  EXPECT_FALSE(near_in_norm(Floats{}, Doubles{1}, 100));
  EXPECT_FALSE(near_in_rows(Floats{1, 2}, Doubles{1}, 1, 100));
  EXPECT_FALSE(near_in_rows(Floats{1}, Doubles{1, 2}, 1, 100));
  EXPECT_FALSE(near_each(Floats{1, 2}, Doubles{1}, 100, 100));
  EXPECT_FALSE(near_each(Floats{}, Doubles{1}, 100, 100));
}

// On either side or both, equal or not, whatever the tolerance.
TEST(Near, RejectsWhatIsNotFinite) {
  for (const double bad : {kNan, -kNan, kInfinity, -kInfinity}) {
    const auto bad_float = static_cast<float>(bad);
    for (const double tolerance : {0.0, 1e30, kInfinity}) {
      for (const auto& [actual, expected] :
           {std::pair<float, double>{bad_float, 1.0}, {1.0f, bad}, {bad_float, bad}}) {
        EXPECT_FALSE(near_in_norm(Floats{0, actual}, Doubles{0, expected}, tolerance));
        EXPECT_FALSE(near_in_rows(Floats{0, actual}, Doubles{0, expected}, 1, tolerance));
        EXPECT_FALSE(near_each(Floats{actual, 0}, Doubles{expected, 0}, tolerance, tolerance));
      }
    }
  }
}

TEST(Near, ANanToleranceAcceptsNothing) {
  EXPECT_FALSE(near_in_norm(Floats{1}, Doubles{1}, kNan));
  EXPECT_FALSE(near_in_rows(Floats{1}, Doubles{1}, 1, kNan));
  EXPECT_FALSE(near_each(Floats{1}, Doubles{1}, kNan, 0));
  EXPECT_FALSE(near_each(Floats{1}, Doubles{1}, 0, kNan));
}

TEST(SameBits, ComparesBytesAndSizes) {
  const std::vector<float> a{0.0f, 1.0f}, b{-0.0f, 1.0f};
  const auto bytes = [](const std::vector<float>& x) { return std::as_bytes(std::span(x)); };
  EXPECT_TRUE(same_bits(bytes(a), bytes(a)));
  EXPECT_FALSE(same_bits(bytes(a), bytes(b)));
  EXPECT_FALSE(same_bits(bytes(a), bytes(a).first(7)));
  EXPECT_FALSE(same_bits(bytes(a).first(7), bytes(a)));
  EXPECT_TRUE(same_bits({}, {}));
}

}  // namespace
}  // namespace lathe::test
