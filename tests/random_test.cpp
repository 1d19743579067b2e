#include "lathe/random.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

namespace lathe {
namespace {

constexpr RandomKey kKey{.seed = 42, .stream = RandomStream::data_order, .substream = 0};

// Known-answer vectors of the authors' Random123 distribution.
TEST(Philox, KnownAnswers) {
  const RandomKey zeros{.seed = 0, .stream = static_cast<RandomStream>(0), .substream = 0};
  EXPECT_EQ(philox(zeros, 0),
            (std::array<std::uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  const RandomKey ones{.seed = ~0ull, .stream = static_cast<RandomStream>(~0u), .substream = ~0u};
  EXPECT_EQ(philox(ones, ~0ull),
            (std::array<std::uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
}

TEST(Random, UniformAndNormalHaveTheirMoments) {
  constexpr int kCount = 100000;
  double mean = 0, square = 0, uniform_mean = 0;
  for (int i = 0; i < kCount; ++i) {
    const double x = normal(kKey, static_cast<std::uint64_t>(i));
    mean += x / kCount;
    square += x * x / kCount;
    const double u = uniform(kKey, static_cast<std::uint64_t>(i));
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    uniform_mean += u / kCount;
  }
  EXPECT_NEAR(mean, 0.0, 0.02);
  EXPECT_NEAR(square, 1.0, 0.02);
  EXPECT_NEAR(uniform_mean, 0.5, 0.005);
}

TEST(Permute, IsABijectionForEveryCount) {
  for (std::uint64_t count = 1; count < 200; ++count) {
    std::set<std::uint64_t> seen;
    for (std::uint64_t i = 0; i < count; ++i) {
      const std::uint64_t x = permute(kKey, i, count);
      ASSERT_LT(x, count);
      seen.insert(x);
    }
    ASSERT_EQ(seen.size(), count);
  }
}

TEST(Permute, EpochsDifferAndFarPlacesMix) {
  RandomKey other = kKey;
  other.substream = 1;
  int same = 0, neighbours = 0;
  constexpr std::uint64_t kCount = 10000;
  for (std::uint64_t i = 0; i + 1 < kCount; ++i) {
    same += permute(kKey, i, kCount) == permute(other, i, kCount);
    neighbours += permute(kKey, i, kCount) + 1 == permute(kKey, i + 1, kCount);
  }
  EXPECT_LT(same, 10);
  EXPECT_LT(neighbours, 10);
}

}  // namespace
}  // namespace lathe
