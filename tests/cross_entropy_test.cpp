// Cross-entropy against float64 loops, and its gradient against central differences of those loops.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

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

// exp within 2 ulp and one rounding each of maximum, difference and logarithm.
constexpr double kArithmetic = 1e-6;

struct Case {
  std::int64_t N;
  reference::VocabShape vocab;
  DType type;
  float logit_scale;
};

struct Inputs {
  std::vector<float> logits;
  std::vector<std::int32_t> targets;
};

Inputs random_inputs(const Case& c) {
  Inputs in{.logits = rounded_to(c.type, normal_floats(c.N * c.vocab.padded, 1, c.logit_scale)),
            .targets = {}};
  for (std::int64_t n = 0; n < c.N; ++n) {
    in.targets.push_back(static_cast<std::int32_t>((n * 37 + c.vocab.vocab - 1) % c.vocab.vocab));
  }
  return in;
}

enum class Gradient { absent, apart, in_place };

struct Outputs {
  std::vector<float> losses, d_logits;
};

constexpr float kScale = 0.03125f;

Outputs run_cross_entropy(const Case& c, const Inputs& in, Gradient gradient) {
  auto backend = make_test_backend();
  const auto logits = to_device(*backend, c.type, {c.N, c.vocab.padded}, in.logits);
  const auto targets = to_device(*backend, {c.N}, in.targets);
  const auto losses = zeros(*backend, DType::fp32, {c.N});
  const std::vector<float> dirt(in.logits.size(), std::numeric_limits<float>::quiet_NaN());
  const auto apart = to_device(*backend, c.type, {c.N, c.vocab.padded}, dirt);
  const Tensor d_logits = gradient == Gradient::absent     ? Tensor()
                          : gradient == Gradient::in_place ? logits.tensor()
                                                           : apart.tensor();
  backend->run(CrossEntropy{.losses = losses,
                            .d_logits = d_logits,
                            .logits = logits,
                            .targets = targets,
                            .vocab = c.vocab.vocab,
                            .scale = kScale});
  Outputs outputs{.losses = to_floats(*backend, losses), .d_logits = {}};
  if (gradient == Gradient::absent) {
    EXPECT_EQ(to_floats(*backend, logits), in.logits);
  } else {
    outputs.d_logits = to_floats(*backend, d_logits);
  }
  return outputs;
}

class CrossEntropyAt : public testing::TestWithParam<Case> {};

TEST_P(CrossEntropyAt, MatchesLoops) {
  const Case& c = GetParam();
  const Inputs in = random_inputs(c);
  const reference::CrossEntropy expected =
      reference::cross_entropy(widen(in.logits), in.targets, c.vocab, kScale);
  for (const Gradient gradient : {Gradient::absent, Gradient::apart, Gradient::in_place}) {
    const Outputs outputs = run_cross_entropy(c, in, gradient);
    EXPECT_TRUE(near_each(outputs.losses, expected.losses, kArithmetic, kArithmetic));
    if (gradient == Gradient::absent) continue;
    EXPECT_TRUE(near_in_norm(outputs.d_logits, expected.d_logits,
                             kArithmetic + rounding_in_norm(c.type, in.logits.size())));
    // Element by element, small probabilities too: relative to each, down to 1e-7 of the scale.
    EXPECT_TRUE(near_each(outputs.d_logits, expected.d_logits, 1e-7 * kScale,
                          kArithmetic + rounding_of_each(c.type)));
    for (std::int64_t n = 0; n < c.N; ++n) {
      for (std::int64_t i = c.vocab.vocab; i < c.vocab.padded; ++i) {
        ASSERT_EQ(outputs.d_logits[static_cast<std::size_t>(n * c.vocab.padded + i)], 0.0f);
      }
    }
  }
}

std::vector<Case> cases() {
  std::vector<Case> result;
  for (const DType type : {DType::fp32, DType::bf16}) {
    result.push_back({1, {65, 128}, type, 1.0f});
    result.push_back({7, {65, 128}, type, 3.0f});
    result.push_back({5, {256, 256}, type, 1.0f});
    result.push_back({3, {65, 67}, type, 2.0f});
    result.push_back({2, {50257, 50304}, type, 2.0f});
    result.push_back({1, {119999, 120064}, type, 2.0f});  // more than shared memory holds
  }
  return result;
}

INSTANTIATE_TEST_SUITE_P(Shapes, CrossEntropyAt, testing::ValuesIn(cases()),
                         [](const auto& test_case) {
                           return fmt::format("N{}V{}{}", test_case.param.N,
                                              test_case.param.vocab.vocab,
                                              to_string(test_case.param.type));
                         });

// Differences of the float64 loops: the kernel's fp32 rounding is all that is left.
TEST(CrossEntropyGradient, MatchesCentralDifferences) {
  const Case c{3, {13, 16}, DType::fp32, 1.0f};
  const Inputs in = random_inputs(c);
  const Doubles expected = reference::central_differences(
      [&](const Doubles& logits) {
        return reference::cross_entropy(logits, in.targets, c.vocab, kScale).losses;
      },
      widen(in.logits), Doubles(3, double{kScale}));
  EXPECT_TRUE(
      near_in_norm(run_cross_entropy(c, in, Gradient::apart).d_logits, expected, kArithmetic));
}

TEST(CrossEntropyValues, LargeLogitsDoNotOverflow) {
  const Case c{4, {65, 128}, DType::fp32, 1e4f};
  const Inputs in = random_inputs(c);
  const reference::CrossEntropy expected =
      reference::cross_entropy(widen(in.logits), in.targets, c.vocab, kScale);
  const Outputs outputs = run_cross_entropy(c, in, Gradient::in_place);
  EXPECT_TRUE(near_each(outputs.losses, expected.losses, kArithmetic, kArithmetic));
  EXPECT_TRUE(near_in_norm(outputs.d_logits, expected.d_logits, kArithmetic));
}

// Equal logits: log(V), and no element of the sum lost.
TEST(CrossEntropyValues, UniformLogitsCostTheLogarithmOfTheVocabulary) {
  const Case c{1, {50257, 50304}, DType::fp32, 0.0f};
  EXPECT_FLOAT_EQ(run_cross_entropy(c, random_inputs(c), Gradient::apart).losses[0],
                  static_cast<float>(std::log(50257.0)));
}

TEST(CrossEntropyValues, NonFiniteLogitsShowInTheLossOfTheirRow) {
  const Case c{3, {65, 128}, DType::fp32, 1.0f};
  const float infinity = std::numeric_limits<float>::infinity();
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), infinity}) {
    for (const std::size_t column : {0, 31, 64}) {
      Inputs in = random_inputs(c);
      in.logits[128 + column] = bad;
      const Outputs outputs = run_cross_entropy(c, in, Gradient::in_place);
      EXPECT_TRUE(std::isnan(outputs.losses[1]));
      EXPECT_TRUE(std::isnan(outputs.d_logits[128 + 5]));
      EXPECT_TRUE(std::isfinite(outputs.losses[0]) && std::isfinite(outputs.losses[2]));
    }
  }
  // Past the vocabulary nothing counts, whatever it is.
  Inputs in = random_inputs(c);
  in.logits[128 + 65] = std::numeric_limits<float>::quiet_NaN();
  const Outputs outputs = run_cross_entropy(c, in, Gradient::in_place);
  EXPECT_TRUE(std::isfinite(outputs.losses[1]));
  EXPECT_EQ(outputs.d_logits[128 + 65], 0.0f);
}

}  // namespace
}  // namespace lathe::test
