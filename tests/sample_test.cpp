// Text from a model: which token a number stands for, and what is remembered of what came before.
#include "lathe/sample.h"

#include <gtest/gtest.h>

#include <cmath>
#include <csignal>

#include "lathe/stop_signal.h"
#include "support/test_model.h"

namespace lathe {
namespace {

const std::vector<float> kLogits = {std::log(0.1f), std::log(0.4f), std::log(0.2f), std::log(0.3f)};

std::vector<double> frequencies(double temperature, std::int64_t top_k) {
  constexpr int kDraws = 100'000;
  std::vector<double> result(kLogits.size());
  for (int i = 0; i < kDraws; ++i) {
    const std::int32_t token = draw_token(kLogits, temperature, top_k, (i + 0.5) / kDraws);
    result.at(static_cast<std::size_t>(token)) += 1.0 / kDraws;
  }
  return result;
}

void expect_frequencies(const std::vector<double>& actual, const std::vector<double>& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(actual[i], expected[i], 1e-4) << i;
}

TEST(DrawToken, FollowsTheDistribution) {
  expect_frequencies(frequencies(1, 0), {0.1, 0.4, 0.2, 0.3});
}

TEST(DrawToken, TemperatureSharpens) {
  // At temperature 1/2 the probabilities go with their squares: 1, 16, 4, 9 of 30.
  expect_frequencies(frequencies(0.5, 0), {1 / 30.0, 16 / 30.0, 4 / 30.0, 9 / 30.0});
}

TEST(DrawToken, TopKTakesTheLikeliest) {
  expect_frequencies(frequencies(1, 2), {0, 4 / 7.0, 0, 3 / 7.0});
  expect_frequencies(frequencies(1, 100), {0.1, 0.4, 0.2, 0.3});
}

TEST(DrawToken, TopKTakesTheFirstOfEquals) {
  const std::vector<float> equals(100, 1.0f);
  EXPECT_EQ(draw_token(equals, 1, 3, 0.99), 2);
  EXPECT_EQ(draw_token(equals, 1, 3, 0), 0);
}

TEST(DrawToken, TemperatureZeroTakesTheLikeliestAndTheFirstOfEquals) {
  expect_frequencies(frequencies(0, 0), {0, 1, 0, 0});
  EXPECT_EQ(draw_token({1, 3, 3, 2}, 0, 0, 0.999), 1);
}

TEST(DrawToken, TheEdgesStayInside) {
  EXPECT_EQ(draw_token(kLogits, 1, 0, 0), 0);
  EXPECT_EQ(draw_token(kLogits, 1, 0, std::nextafter(1.0, 0.0)), 3);
  EXPECT_EQ(draw_token({1e30f, -1e30f}, 1, 0, 0.5), 0);  // no overflow
}

class Generate : public testing::Test {
 protected:
  Generate() { model_.initialize(1, /*scale=*/20); }

  std::vector<std::int32_t> tokens(const std::vector<std::int32_t>& prompt, std::int64_t count,
                                   double temperature, std::uint64_t seed) {
    std::vector<std::int32_t> result;
    generate(model_.model(),
             {.prompt = prompt,
              .max_tokens = count,
              .temperature = temperature,
              .top_k = 0,
              .seed = seed},
             [&](std::int32_t token) { result.push_back(token); });
    return result;
  }

  test::TestModel model_{
      {.config = {.layers = 1, .heads = 2, .channels = 16, .context = 8, .vocab = 40},
       .options = {.micro_batch = 1,
                   .seq_len = 8,
                   .precision = DType::fp32,
                   .recompute = Recompute::none,
                   .training = false}}};
};

TEST_F(Generate, TakesItsOwnTokensAsInput) {
  const std::vector<std::int32_t> all = tokens({3}, 5, 0, 1);
  ASSERT_EQ(all.size(), 5u);
  std::vector<std::int32_t> prompt = {3};
  for (const std::int32_t token : all) {
    EXPECT_EQ(tokens(prompt, 1, 0, 1), std::vector{token});
    prompt.push_back(token);
  }
}

TEST_F(Generate, IsAFunctionOfTheSeed) {
  EXPECT_EQ(tokens({3}, 20, 1, 7), tokens({3}, 20, 1, 7));
  EXPECT_NE(tokens({3}, 20, 1, 7), tokens({3}, 20, 1, 8));
}

TEST_F(Generate, ForgetsWhatIsFurtherBackThanTheModelSees) {
  const auto next_tokens = [this](const std::vector<std::int32_t>& prompt) {
    std::vector<std::int32_t> result;
    for (std::uint64_t seed = 0; seed < 100; ++seed) {
      result.push_back(tokens(prompt, 1, 1, seed).at(0));
    }
    return result;
  };
  std::vector<std::int32_t> prompt = {7, 1, 2, 3, 4, 5, 6, 7, 8};  // one more than seq_len
  const std::vector<std::int32_t> expected = next_tokens(prompt);
  prompt[0] = 30;
  EXPECT_EQ(next_tokens(prompt), expected);
  prompt[1] = 30;
  EXPECT_NE(next_tokens(prompt), expected);
}

TEST_F(Generate, EndsAtAStopSignal) {
  watch_stop_signals();
  int emitted = 0;
  generate(model_.model(),
           {.prompt = {3}, .max_tokens = 100, .temperature = 1, .top_k = 0, .seed = 5},
           [&](std::int32_t) {
             if (++emitted == 4) std::raise(SIGUSR1);
           });
  EXPECT_EQ(emitted, 4);
  watch_stop_signals();
}

TEST(FirstToken, IsWhatStandsBeforeATextOrADocument) {
  EXPECT_EQ(first_token(/*is_text=*/true, 256), '\n');
  EXPECT_EQ(first_token(/*is_text=*/false, 50257), 50256);
  EXPECT_EQ(first_token(/*is_text=*/false, 5), 4);
}

TEST(Readable, ShowsBytesOrNumbers) {
  EXPECT_EQ(readable({'a', '\n', '~', 0, 127, 200}, /*is_text=*/true), "a\n~???");
  EXPECT_EQ(readable({1, 50256}, /*is_text=*/false), "1 50256 ");
}

}  // namespace
}  // namespace lathe
