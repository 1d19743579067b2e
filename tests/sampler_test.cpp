// Which token a number stands for, against the distribution written from its definition in float64:
// sorted, cut, normalised, and added up in the order of the ids.
#include "lathe/sampler.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "support/device_tensors.h"
#include "support/error_of.h"

namespace lathe {
namespace {

using Distribution = std::vector<double>;

Distribution distribution(const std::vector<float>& logits, const SamplerOptions& options) {
  std::vector<std::size_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return logits[a] > logits[b]; });
  if (options.top_k > 0) {
    order.resize(std::min(order.size(), static_cast<std::size_t>(options.top_k)));
  }
  Distribution result(logits.size());
  double total = 0;
  for (const std::size_t id : order) {
    result[id] = std::exp((double{logits[id]} - logits[order[0]]) / options.temperature);
    total += result[id];
  }
  double sum = 0, kept = 0;
  for (const std::size_t id : order) {
    if (sum >= options.top_p * total) {
      result[id] = 0;
    } else {
      kept += result[id];
    }
    sum += result[id];
  }
  for (double& probability : result) probability /= kept;
  return result;
}

// The middle of each token's part of [0, 1), and its edges but for a billionth, stand for it.
void expect_distribution(const std::vector<float>& logits, const SamplerOptions& options) {
  SCOPED_TRACE(fmt::format("temperature {} top_k {} top_p {}", options.temperature, options.top_k,
                           options.top_p));
  constexpr double kRounding = 1e-9;
  Sampler sampler(options);
  const Distribution expected = distribution(logits, options);
  double begin = 0;
  for (std::size_t id = 0; id < expected.size(); ++id) {
    const double end = begin + expected[id];
    if (expected[id] > 3 * kRounding) {
      for (const double u : {begin + kRounding, (begin + end) / 2, end - kRounding}) {
        ASSERT_EQ(sampler.draw(logits, u), static_cast<std::int32_t>(id)) << "at " << u;
      }
    }
    begin = end;
  }
  ASSERT_NEAR(begin, 1, 1e-12);
}

// In halves, so that there are ties at every cut.
std::vector<float> random_logits(std::int64_t count, std::uint64_t seed) {
  std::vector<float> logits = test::normal_floats(count, seed, 3);
  for (float& logit : logits) logit = std::round(2 * logit) / 2;
  return logits;
}

TEST(Sampler, FollowsTheDistribution) {
  for (const std::int64_t count : {1, 2, 50, 400}) {
    const std::vector<float> logits = random_logits(count, 1);
    for (const double temperature : {0.1, 0.8, 1.0, 30.0}) {
      for (const std::int64_t top_k : {0, 1, 3, 64, 65, 399, 400, 1000}) {
        for (const double top_p : {1e-9, 0.3, 0.9, 0.9999, 1.0}) {
          expect_distribution(logits, {.temperature = temperature, .top_k = top_k, .top_p = top_p});
        }
      }
    }
  }
}

TEST(Sampler, KeepsNothingOfEarlierDraws) {
  Sampler sampler({.temperature = 1, .top_k = 5, .top_p = 0.8});
  const std::vector<float> logits = random_logits(300, 1);
  const std::int32_t first = sampler.draw(logits, 0.7);
  sampler.draw(random_logits(400, 2), 0.3);
  sampler.draw(random_logits(20, 3), 0.3);
  EXPECT_EQ(sampler.draw(logits, 0.7), first);
}

TEST(Sampler, OfEqualTokensTheFirstStay) {
  const std::vector<float> equals(100, 1.0f);
  EXPECT_EQ(Sampler({.temperature = 1, .top_k = 3}).draw(equals, 0.99), 2);
  EXPECT_EQ(Sampler({.temperature = 1, .top_k = 3}).draw(equals, 0), 0);
  EXPECT_EQ(Sampler({.temperature = 1, .top_p = 0.295}).draw(equals, 0.999), 29);
}

TEST(Sampler, TemperatureZeroTakesTheLikeliestAndTheFirstOfEquals) {
  EXPECT_EQ(Sampler({.temperature = 0}).draw(std::vector<float>{1, 3, 3, 2}, 0.999), 1);
}

// Vectors of tokens are looked at together, and parts of those.
TEST(Sampler, FindsTheFirstOfTheLikeliestAndEveryNanAmongManyTokens) {
  for (const std::size_t place : {0, 15, 16, 1007, 1023, 1024, 2050, 2999}) {
    std::vector<float> logits(3000, -1.0f);
    logits[place] = logits.back() = -0.5f;
    EXPECT_EQ(Sampler({.temperature = 0}).draw(logits, 0), static_cast<std::int32_t>(place));
    logits[place] = std::numeric_limits<float>::quiet_NaN();
    EXPECT_NE(test::error_of([&] { Sampler({.temperature = 0}).draw(logits, 0); }), "") << place;
  }
}

TEST(Sampler, TheEdgesStayInside) {
  const double last = std::nextafter(1.0, 0.0);
  const float infinity = std::numeric_limits<float>::infinity();
  Sampler sampler({});
  EXPECT_EQ(sampler.draw(std::vector<float>{0, 1, 2}, 0), 0);
  EXPECT_EQ(sampler.draw(std::vector<float>{0, 1, 2}, last), 2);
  EXPECT_EQ(sampler.draw(std::vector<float>{1e30f, -1e30f}, last), 0);  // no overflow
  // Tokens of probability 0 do not come, at either end.
  EXPECT_EQ(sampler.draw(std::vector<float>{-infinity, 1, 1, -infinity}, 0), 1);
  EXPECT_EQ(sampler.draw(std::vector<float>{-infinity, 1, 1, -infinity}, last), 2);
  EXPECT_EQ(Sampler({.temperature = 1e-300}).draw(std::vector<float>{1, 3, 2}, last), 1);
}

// Rounding may leave a little of 1 behind the last token: it is that of the last that can come.
TEST(Sampler, ATokenOfProbabilityZeroNeverComes) {
  Sampler sampler({});
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    std::vector<float> logits = test::normal_floats(50, seed);
    logits.push_back(-std::numeric_limits<float>::infinity());
    ASSERT_EQ(sampler.draw(logits, std::nextafter(1.0, 0.0)), 49) << seed;
  }
}

TEST(Sampler, RefusesLogitsThatAreNotNumbers) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  for (const std::vector<float>& logits :
       {std::vector<float>{nan, 1, 2}, {1, 2, nan}, {1, infinity}, {-infinity, -infinity}}) {
    for (const double temperature : {0.0, 1.0}) {
      EXPECT_EQ(test::error_of([&] { Sampler({.temperature = temperature}).draw(logits, 0.5); }),
                "exit 7: the model's logits are not numbers: its parameters are damaged or have "
                "diverged");
    }
  }
}

}  // namespace
}  // namespace lathe
