// Embedding: exact, for a row is one addition; the gradient against float64 loops.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "lathe/backend.h"
#include "support/compare.h"
#include "support/device_tensors.h"
#include "support/reference.h"
#include "support/test_device.h"

namespace lathe::test {
namespace {

using reference::Doubles;
using reference::widen;

enum class Operand { none, d_token_table, d_position_table, d_out };

struct Case {
  std::int64_t B, T, C;
  DType type;
  std::int64_t vocab = kVocab;
  Operand misaligned = Operand::none;

  static constexpr std::int64_t kVocab = 7;  // few tokens: they repeat
};
constexpr std::int64_t kContext = 70;

std::vector<std::int32_t> tokens_of(const Case& c) {
  std::vector<std::int32_t> tokens;
  for (std::int64_t n = 0; n < c.B * c.T; ++n) {
    tokens.push_back(static_cast<std::int32_t>(n * n % c.vocab));
  }
  return tokens;
}

std::size_t at(std::int64_t row, std::int64_t columns, std::int64_t column) {
  return static_cast<std::size_t>(row * columns + column);
}

class EmbeddingAt : public testing::TestWithParam<Case> {};

TEST_P(EmbeddingAt, ForwardIsExact) {
  const Case& c = GetParam();
  auto backend = make_test_backend();
  const auto token_values = rounded_to(c.type, normal_floats(c.vocab * c.C, 1));
  const auto position_values = rounded_to(c.type, normal_floats(kContext * c.C, 2));
  const std::vector<std::int32_t> token_ids = tokens_of(c);
  const auto out = zeros(*backend, c.type, {c.B, c.T, c.C});
  const auto tokens = to_device(*backend, {c.B, c.T}, token_ids);
  const auto token_table = to_device(*backend, c.type, {c.vocab, c.C}, token_values);
  const auto position_table = to_device(*backend, c.type, {kContext, c.C}, position_values);
  backend->run(EmbeddingForward{
      .out = out, .tokens = tokens, .token_table = token_table, .position_table = position_table});
  std::vector<float> expected;
  for (std::int64_t n = 0; n < c.B * c.T; ++n) {
    for (std::int64_t i = 0; i < c.C; ++i) {
      const std::int32_t token = token_ids[static_cast<std::size_t>(n)];
      expected.push_back(token_values[at(token, c.C, i)] + position_values[at(n % c.T, c.C, i)]);
    }
  }
  EXPECT_EQ(to_floats(*backend, out), rounded_to(c.type, expected));
}

TEST_P(EmbeddingAt, BackwardMatchesLoops) {
  const Case& c = GetParam();
  constexpr double kArithmetic = 1e-6;  // sums of at most B * T terms
  auto backend = make_test_backend();
  const auto d_out_values = rounded_to(c.type, normal_floats(c.B * c.T * c.C, 3));
  const std::vector<std::int32_t> token_ids = tokens_of(c);
  const auto before_token = normal_floats(c.vocab * c.C, 4);
  const auto before_position = normal_floats(kContext * c.C, 5);
  const auto place = [&](Operand operand, DType type, std::initializer_list<std::int64_t> shape,
                         const std::vector<float>& values) {
    return c.misaligned == operand ? to_device_misaligned(*backend, type, shape, values)
                                   : to_device(*backend, type, shape, values);
  };
  const auto d_out = place(Operand::d_out, c.type, {c.B, c.T, c.C}, d_out_values);
  const auto tokens = to_device(*backend, {c.B, c.T}, token_ids);
  for (const bool accumulate : {false, true}) {
    const auto d_token = place(Operand::d_token_table, DType::fp32, {c.vocab, c.C}, before_token);
    const auto d_position =
        place(Operand::d_position_table, DType::fp32, {kContext, c.C}, before_position);
    backend->run(EmbeddingBackward{.d_token_table = d_token,
                                   .d_position_table = d_position,
                                   .d_out = d_out,
                                   .tokens = tokens,
                                   .accumulate = accumulate});
    Doubles token_expected = widen(before_token);
    Doubles position_expected =
        accumulate ? widen(before_position) : Doubles(before_position.size(), 0.0);
    for (std::int64_t n = 0; n < c.B * c.T; ++n) {
      for (std::int64_t i = 0; i < c.C; ++i) {
        const std::int32_t token = token_ids[static_cast<std::size_t>(n)];
        token_expected[at(token, c.C, i)] += d_out_values[at(n, c.C, i)];
        position_expected[at(n % c.T, c.C, i)] += d_out_values[at(n, c.C, i)];
      }
    }
    EXPECT_TRUE(near_in_norm(to_floats(*backend, d_token), token_expected, kArithmetic));
    const std::vector<float> position = to_floats(*backend, d_position);
    EXPECT_TRUE(near_in_norm(position, position_expected, kArithmetic));
    for (std::size_t i = at(c.T, c.C, 0); i < position.size(); ++i) {
      ASSERT_EQ(position[i], accumulate ? before_position[i] : 0.0f);
    }
  }
}

std::vector<Case> cases() {
  std::vector<Case> result;
  for (const DType type : {DType::fp32, DType::bf16}) {
    for (const std::int64_t C : {1, 33, 96}) {
      result.push_back({1, 1, C, type});
      result.push_back({3, 65, C, type});
      result.push_back({2, kContext, C, type});
    }
    // Tokens of one and of two digits, some never seen, in several chunks; one token alone.
    result.push_back({33, 65, 5, type, 256});
    result.push_back({33, 65, 8, type, 300});
    result.push_back({33, 65, 40, type, 1});
    result.push_back({1, 65, 264, type, 2});  // the last token begins a piece before the end
    for (const Operand operand :
         {Operand::d_token_table, Operand::d_position_table, Operand::d_out}) {
      result.push_back({2, 5, 16, type, 7, operand});
    }
  }
  return result;
}

INSTANTIATE_TEST_SUITE_P(Shapes, EmbeddingAt, testing::ValuesIn(cases()),
                         [](const auto& test_case) {
                           const Case& c = test_case.param;
                           return fmt::format("B{}T{}C{}{}V{}{}", c.B, c.T, c.C, to_string(c.type),
                                              c.vocab, static_cast<int>(c.misaligned));
                         });

// Differences of the op itself: it is linear and these sums are exact in fp32, so a step of 1 gives
// the gradient without error.
TEST(EmbeddingGradient, MatchesDifferencesOfTheForwardPass) {
  const Case c{2, 5, 3, DType::fp32};
  auto backend = make_test_backend();
  const auto tokens = to_device(*backend, {c.B, c.T}, tokens_of(c));
  const auto out = zeros(*backend, c.type, {c.B, c.T, c.C});
  std::vector<float> weights;
  for (int i = 0; i < 30; ++i) weights.push_back(static_cast<float>(i * i % 11));
  const auto d_out = to_device(*backend, c.type, {c.B, c.T, c.C}, weights);
  const auto d_token = zeros(*backend, DType::fp32, {c.vocab, c.C});
  const auto d_position = zeros(*backend, DType::fp32, {kContext, c.C});
  backend->run(EmbeddingBackward{.d_token_table = d_token,
                                 .d_position_table = d_position,
                                 .d_out = d_out,
                                 .tokens = tokens,
                                 .accumulate = false});
  const auto weighted_sum = [&](const std::vector<float>& token,
                                const std::vector<float>& position) {
    const auto token_table = to_device(*backend, c.type, {c.vocab, c.C}, token);
    const auto position_table = to_device(*backend, c.type, {kContext, c.C}, position);
    backend->run(EmbeddingForward{.out = out,
                                  .tokens = tokens,
                                  .token_table = token_table,
                                  .position_table = position_table});
    const std::vector<float> values = to_floats(*backend, out);
    float sum = 0;
    for (std::size_t i = 0; i < values.size(); ++i) sum += values[i] * weights[i];
    return sum;
  };
  std::vector<float> token(static_cast<std::size_t>(c.vocab) * 3, 0.0f),
      position(kContext * 3, 0.0f);
  std::vector<float> token_differences, position_differences;
  for (float& element : token) {
    element = 1;
    token_differences.push_back(weighted_sum(token, position));
    element = 0;
  }
  for (float& element : position) {
    element = 1;
    position_differences.push_back(weighted_sum(token, position));
    element = 0;
  }
  EXPECT_EQ(to_floats(*backend, d_token), token_differences);
  EXPECT_EQ(to_floats(*backend, d_position), position_differences);
}

}  // namespace
}  // namespace lathe::test
