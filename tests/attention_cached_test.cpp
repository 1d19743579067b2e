// Attention to a cache against float64 loops over the whole sequence, of which the first positions
// are in the cache and the last are new.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
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

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// As for attention_test: sums over positions in fp32, and exp within 2 ulp.
constexpr double kArithmetic = 2e-6;

struct Case {
  std::int64_t B, H, D;
  std::int64_t begin, T, S;
  DType type = DType::fp32;

  std::int64_t C() const { return H * D; }
  std::int64_t end() const { return begin + T; }
};

std::size_t index(std::int64_t i) {
  return static_cast<std::size_t>(i);
}

// Calls visit(i, from) for each of elements i of a (B, H, S, D) cache; `from` is where part 1
// (keys) or 2 (values) of a (B, end, 3C) tensor has it, -1 for rows from `end` on.
void visit_cache(const Case& c, std::int64_t part,
                 const std::function<void(std::size_t, std::int64_t)>& visit) {
  std::size_t i = 0;
  for (std::int64_t b = 0; b < c.B; ++b) {
    for (std::int64_t h = 0; h < c.H; ++h) {
      for (std::int64_t s = 0; s < c.S; ++s) {
        for (std::int64_t d = 0; d < c.D; ++d) {
          const std::int64_t row = (b * c.end() + s) * 3 * c.C();
          visit(i++, s < c.end() ? row + part * c.C() + h * c.D + d : -1);
        }
      }
    }
  }
}

// A cache with rows [0, count) of every head, NaN in the others.
std::vector<float> cache_of(const Case& c, const std::vector<float>& qkv, std::int64_t part,
                            std::int64_t count) {
  std::vector<float> cache(index(c.B * c.H * c.S * c.D), kNan);
  visit_cache(c, part, [&](std::size_t i, std::int64_t from) {
    if (static_cast<std::int64_t>(i) / c.D % c.S < count) cache[i] = qkv[index(from)];
  });
  return cache;
}

// Positions [begin, end) of a (B, end, width) tensor.
template <class T>
std::vector<T> last_positions(const Case& c, const std::vector<T>& all, std::int64_t width) {
  std::vector<T> last;
  for (std::int64_t b = 0; b < c.B; ++b) {
    const auto row = [&](std::int64_t t) { return all.begin() + (b * c.end() + t) * width; };
    last.insert(last.end(), row(c.begin), row(c.end()));
  }
  return last;
}

// Which operand begins at no multiple of 16 bytes.
enum class Misaligned { none, out, keys, values, qkv };

struct Result {
  std::vector<float> qkv;  // (B, end, 3C) as stored
  std::vector<float> out, keys, values;
};

Result run(const Case& c, const std::vector<float>& qkv, Misaligned misaligned = Misaligned::none) {
  auto backend = make_test_backend();
  const auto place = [&](Misaligned name, std::initializer_list<std::int64_t> shape,
                         const std::vector<float>& values) {
    return misaligned == name ? to_device_misaligned(*backend, c.type, shape, values)
                              : to_device(*backend, c.type, shape, values);
  };
  const std::vector<float> dirt(index(c.B * c.T * c.C()), kNan);
  const auto out = place(Misaligned::out, {c.B, c.T, c.C()}, dirt);
  const auto keys = place(Misaligned::keys, {c.B, c.H, c.S, c.D}, cache_of(c, qkv, 1, c.begin));
  const auto values = place(Misaligned::values, {c.B, c.H, c.S, c.D}, cache_of(c, qkv, 2, c.begin));
  const auto added =
      place(Misaligned::qkv, {c.B, c.T, 3 * c.C()}, last_positions(c, qkv, 3 * c.C()));
  backend->run(
      AttentionCached{.out = out, .keys = keys, .values = values, .qkv = added, .begin = c.begin});
  return {.qkv = rounded_to(c.type, qkv),
          .out = to_floats(*backend, out),
          .keys = to_floats(*backend, keys),
          .values = to_floats(*backend, values)};
}

std::vector<float> random_qkv(const Case& c, float scale = 1.0f) {
  return normal_floats(c.B * c.end() * 3 * c.C(), 1, scale);
}

Doubles expected_out(const Case& c, const Result& result) {
  const reference::Attention whole = reference::attention(
      reference::widen(result.qkv), {.B = c.B, .T = c.end(), .C = c.C(), .H = c.H});
  return last_positions(c, whole.out, c.C());
}

// Of one head at one position, where few terms may make most of a sum.
double row_tolerance(const Case& c) {
  return 2 * kArithmetic + rounding_of_each(c.type);
}

// The same floats, NaN for NaN.
testing::AssertionResult same_floats(const std::vector<float>& actual,
                                     const std::vector<float>& expected) {
  return same_bits(std::as_bytes(std::span(actual)), std::as_bytes(std::span(expected)));
}

class AttentionCachedAt : public testing::TestWithParam<Case> {};

TEST_P(AttentionCachedAt, MatchesLoopsOverTheWholeSequence) {
  const Case& c = GetParam();
  const Result result = run(c, random_qkv(c));
  const Doubles expected = expected_out(c, result);
  EXPECT_TRUE(near_in_norm(result.out, expected,
                           kArithmetic + rounding_in_norm(c.type, result.out.size())));
  EXPECT_TRUE(near_in_rows(result.out, expected, index(c.D), row_tolerance(c)));
}

TEST_P(AttentionCachedAt, AddsTheNewRowsAndLeavesTheOthers) {
  const Case& c = GetParam();
  const Result result = run(c, random_qkv(c));
  EXPECT_TRUE(same_floats(result.keys, cache_of(c, result.qkv, 1, c.end())));
  EXPECT_TRUE(same_floats(result.values, cache_of(c, result.qkv, 2, c.end())));
}

// Several heads and sequences, rows that are no whole vectors, more keys than the warps of a block
// take at once, and as many queries as make more than one block of them.
std::vector<Case> cases() {
  std::vector<Case> result;
  for (const DType type : {DType::fp32, DType::bf16}) {
    for (const Case& c : {
             Case{.B = 1, .H = 1, .D = 5, .begin = 0, .T = 1, .S = 1},
             Case{.B = 2, .H = 3, .D = 5, .begin = 0, .T = 17, .S = 20},
             Case{.B = 3, .H = 3, .D = 5, .begin = 16, .T = 1, .S = 17},
             Case{.B = 1, .H = 2, .D = 16, .begin = 33, .T = 1, .S = 40},
             Case{.B = 2, .H = 2, .D = 64, .begin = 299, .T = 1, .S = 301},
             Case{.B = 1, .H = 3, .D = 40, .begin = 7, .T = 3, .S = 10},
             Case{.B = 2, .H = 1, .D = 8, .begin = 70, .T = 35, .S = 110},
             Case{.B = 1, .H = 1, .D = 24, .begin = 130, .T = 150, .S = 290},
         }) {
      result.push_back(c);
      result.back().type = type;
    }
  }
  return result;
}

std::string name_of(const testing::TestParamInfo<Case>& info) {
  const Case& c = info.param;
  return fmt::format("B{}H{}D{}From{}T{}S{}{}", c.B, c.H, c.D, c.begin, c.T, c.S,
                     to_string(c.type));
}

INSTANTIATE_TEST_SUITE_P(Shapes, AttentionCachedAt, testing::ValuesIn(cases()), name_of);

constexpr Case kStep = {.B = 1, .H = 2, .D = 16, .begin = 40, .T = 3, .S = 50, .type = DType::bf16};

TEST(AttentionCached, TakesOperandsThatBeginAnywhere) {
  for (const Misaligned operand :
       {Misaligned::out, Misaligned::keys, Misaligned::values, Misaligned::qkv}) {
    const Result result = run(kStep, random_qkv(kStep), operand);
    EXPECT_TRUE(near_in_rows(result.out, expected_out(kStep, result), 16, row_tolerance(kStep)));
    EXPECT_TRUE(same_floats(result.keys, cache_of(kStep, result.qkv, 1, kStep.end())));
  }
}

// Scores of thousands: exp must not overflow. An error of one ulp of the score is one of 1e-4 of a
// probability.
TEST(AttentionCached, LargeScoresDoNotOverflow) {
  for (const std::int64_t T : {1, 20}) {
    Case c = kStep;
    c.type = DType::fp32;
    c.T = T;
    c.S = 60;
    const Result result = run(c, random_qkv(c, 50.0f));
    EXPECT_TRUE(near_in_norm(result.out, expected_out(c, result), 1e-3));
  }
}

// Nor may it vanish where no score is near 0: queries of -20 and keys of 20 make scores of -1600.
TEST(AttentionCached, ScoresFarBelowZeroDoNotVanish) {
  for (const std::int64_t T : {1, 20}) {
    Case c = kStep;
    c.type = DType::fp32;
    c.T = T;
    c.S = 60;
    std::vector<float> qkv = random_qkv(c);
    for (std::size_t i = 0; i < qkv.size(); ++i) {
      const std::int64_t part = static_cast<std::int64_t>(i) / c.C() % 3;
      qkv[i] += part == 0 ? -20.0f : part == 1 ? 20.0f : 0.0f;
    }
    const Result result = run(c, qkv);
    EXPECT_TRUE(near_in_norm(result.out, expected_out(c, result), 1e-3));
  }
}

// A NaN in a key of head 0 spoils that head at every position from the key's on, and no other.
TEST(AttentionCached, NanSpreadsToWhatDependsOnIt) {
  for (const std::int64_t T : {3, 20}) {
    Case c = kStep;
    c.T = T;
    c.S = 60;
    for (const std::int64_t position : {std::int64_t{5}, c.begin + 1}) {
      std::vector<float> qkv = random_qkv(c);
      qkv[index(position * 3 * c.C() + c.C())] = kNan;
      const Result result = run(c, qkv);
      for (std::int64_t t = 0; t < T; ++t) {
        const std::size_t head_0 = index(t * c.C()), head_1 = index(t * c.C() + c.D);
        EXPECT_EQ(std::isnan(result.out[head_0]), c.begin + t >= position) << t;
        EXPECT_FALSE(std::isnan(result.out[head_1])) << t;
      }
    }
  }
}

TEST(AttentionCached, RunsGiveTheSameBits) {
  const Case c{.B = 2, .H = 2, .D = 64, .begin = 299, .T = 1, .S = 301, .type = DType::fp32};
  EXPECT_TRUE(same_floats(run(c, random_qkv(c)).out, run(c, random_qkv(c)).out));
}

}  // namespace
}  // namespace lathe::test
