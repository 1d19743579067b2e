// Attention against float64 loops, and its gradient against central differences of those loops.
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

using reference::AttentionShape;
using reference::Doubles;
using reference::widen;

struct Case {
  AttentionShape shape;
  DType type;
};

// Sums over T in blocks of 64, and exp within 2 ulp: a few 1e-7 of the norm.
constexpr double kArithmetic = 2e-6;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

std::int64_t elements(const AttentionShape& s) {
  return s.B * s.T * s.C;
}

struct Passes {
  std::vector<float> qkv, d_out;  // as stored
  std::vector<float> out, log_sum_exp, d_qkv;
};

// Where operands begin, in elements of their memory.
struct Offsets {
  std::int64_t qkv = 0, d_out = 0, out = 0, d_qkv = 0;
};

class Operand {
 public:
  Operand(Backend& backend, DType type, std::initializer_list<std::int64_t> shape,
          std::vector<float> values, std::int64_t offset) {
    values.insert(values.begin(), static_cast<std::size_t>(offset), kNan);
    const auto count = static_cast<std::int64_t>(values.size());
    memory_ = to_device(backend, type, {count}, values);
    auto* begin = static_cast<std::byte*>(memory_.tensor().data());
    view_ = Tensor(begin + offset * size_of(type), type, shape);
  }
  operator Tensor() const { return view_; }

 private:
  DeviceTensor memory_;
  Tensor view_;
};

Passes run_attention(const Case& c, std::vector<float> qkv, std::vector<float> d_out,
                     const Offsets& offsets = {}) {
  const AttentionShape& s = c.shape;
  auto backend = make_test_backend();
  // Written, not added to, and every element of it: a leftover would show.
  const std::vector<float> dirt(static_cast<std::size_t>(elements(s)), kNan);
  const std::vector<float> d_qkv_dirt(static_cast<std::size_t>(3 * elements(s)), kNan);
  const Operand device_qkv(*backend, c.type, {s.B, s.T, 3 * s.C}, qkv, offsets.qkv);
  const Operand device_d_out(*backend, c.type, {s.B, s.T, s.C}, d_out, offsets.d_out);
  const Operand out(*backend, c.type, {s.B, s.T, s.C}, dirt, offsets.out);
  const Operand d_qkv(*backend, c.type, {s.B, s.T, 3 * s.C}, d_qkv_dirt, offsets.d_qkv);
  const auto log_sum_exp = zeros(*backend, DType::fp32, {s.B, s.H, s.T});
  backend->run(AttentionForward{.out = out, .log_sum_exp = log_sum_exp, .qkv = device_qkv});
  backend->run(AttentionBackward{.d_qkv = d_qkv,
                                 .d_out = device_d_out,
                                 .qkv = device_qkv,
                                 .out = out,
                                 .log_sum_exp = log_sum_exp});
  return {.qkv = rounded_to(c.type, std::move(qkv)),
          .d_out = rounded_to(c.type, std::move(d_out)),
          .out = to_floats(*backend, out),
          .log_sum_exp = to_floats(*backend, log_sum_exp),
          .d_qkv = to_floats(*backend, d_qkv)};
}

Passes run_random(const Case& c, float scale = 1.0f) {
  return run_attention(c, normal_floats(3 * elements(c.shape), 1, scale),
                       normal_floats(elements(c.shape), 2));
}

// Head sizes at which a GPU's tensor cores are used.
bool may_use_tensor_cores(const Case& c) {
  const std::int64_t D = c.shape.C / c.shape.H;
  return c.type == DType::bf16 && (D == 32 || D == 64 || D == 128);
}

// Tensor cores take probabilities and the gradients of scores as bf16, too: each term of a sum is
// rounded once more. The terms' errors are independent, and so the error of sums is to the sums as
// that of terms is to terms: that of rounding once. It is independent of the result's: squares add.
double roundings(const Case& c) {
  return may_use_tensor_cores(c) ? std::sqrt(2.0) : 1.0;
}

// Of a whole tensor.
double norm_tolerance(const Case& c, std::size_t count) {
  return kArithmetic + roundings(c) * rounding_in_norm(c.type, count);
}

// Of one head at one position, where few terms may make most of a sum.
double row_tolerance(const Case& c) {
  return 2 * kArithmetic + roundings(c) * rounding_of_each(c.type);
}

class AttentionAt : public testing::TestWithParam<Case> {};

TEST_P(AttentionAt, MatchesLoops) {
  const Case& c = GetParam();
  const auto head_size = static_cast<std::size_t>(c.shape.C / c.shape.H);
  const Passes run = run_random(c);
  const reference::Attention expected = reference::attention(widen(run.qkv), c.shape);
  EXPECT_TRUE(near_in_norm(run.out, expected.out, norm_tolerance(c, run.out.size())));
  EXPECT_TRUE(near_in_rows(run.out, expected.out, head_size, row_tolerance(c)));
  EXPECT_TRUE(near_each(run.log_sum_exp, expected.log_sum_exp, 2e-6, 1e-6));
  const Doubles d_qkv =
      reference::attention_gradient(widen(run.d_out), widen(run.qkv), widen(run.out), c.shape);
  EXPECT_TRUE(near_in_norm(run.d_qkv, d_qkv, norm_tolerance(c, run.d_qkv.size())));
  EXPECT_TRUE(near_in_rows(run.d_qkv, d_qkv, head_size, row_tolerance(c)));
}

std::vector<Case> cases() {
  std::vector<Case> result;
  for (const DType type : {DType::fp32, DType::bf16}) {
    for (const AttentionShape& shape : {
             AttentionShape{.B = 1, .T = 1, .C = 5, .H = 1},
             AttentionShape{.B = 2, .T = 17, .C = 15, .H = 3},
             AttentionShape{.B = 1, .T = 64, .C = 64, .H = 1},
             AttentionShape{.B = 2, .T = 65, .C = 48, .H = 3},
             AttentionShape{.B = 1, .T = 130, .C = 192, .H = 3},
             AttentionShape{.B = 1, .T = 130, .C = 5, .H = 1},
             AttentionShape{.B = 1, .T = 200, .C = 80, .H = 1},
         }) {
      result.push_back({shape, type});
    }
  }
  for (const std::int64_t D : {32, 64, 128}) {
    for (const AttentionShape& shape : {
             AttentionShape{.B = 2, .T = 1, .C = D, .H = 1},
             AttentionShape{.B = 2, .T = 17, .C = 3 * D, .H = 3},
             AttentionShape{.B = 1, .T = 64, .C = 2 * D, .H = 2},
             AttentionShape{.B = 2, .T = 65, .C = D, .H = 1},
             AttentionShape{.B = 1, .T = 130, .C = D, .H = 1},
             AttentionShape{.B = 1, .T = 290, .C = 2 * D, .H = 2},
         }) {
      result.push_back({shape, DType::bf16});
    }
  }
  return result;
}

std::string name_of(const testing::TestParamInfo<Case>& info) {
  const AttentionShape& s = info.param.shape;
  return fmt::format("B{}T{}C{}H{}{}", s.B, s.T, s.C, s.H, to_string(info.param.type));
}

INSTANTIATE_TEST_SUITE_P(Shapes, AttentionAt, testing::ValuesIn(cases()), name_of);

// Differences of the float64 loops: the kernel's fp32 rounding is all that is left.
TEST(AttentionGradient, MatchesCentralDifferences) {
  for (const AttentionShape& shape : {AttentionShape{.B = 2, .T = 5, .C = 6, .H = 3},
                                      AttentionShape{.B = 1, .T = 66, .C = 2, .H = 1}}) {
    const Passes run = run_random({shape, DType::fp32});
    const Doubles d_qkv = reference::central_differences(
        [&](const Doubles& qkv) { return reference::attention(qkv, shape).out; }, widen(run.qkv),
        widen(run.d_out));
    EXPECT_TRUE(near_in_norm(run.d_qkv, d_qkv, kArithmetic));
    const Doubles loops = reference::attention_gradient(
        widen(run.d_out), widen(run.qkv), reference::attention(widen(run.qkv), shape).out, shape);
    const std::vector<float> rounded(loops.begin(), loops.end());
    EXPECT_TRUE(near_in_norm(rounded, d_qkv, 1e-7));
  }
}

// Also where 16 bytes at a time cannot be read or written.
TEST(Attention, TakesOperandsThatBeginAnywhere) {
  const Case c{.shape = {.B = 1, .T = 17, .C = 128, .H = 2}, .type = DType::bf16};
  for (const Offsets& offsets :
       {Offsets{.qkv = 1}, Offsets{.d_out = 1}, Offsets{.out = 1}, Offsets{.d_qkv = 1}}) {
    const Passes run = run_attention(c, normal_floats(3 * elements(c.shape), 1),
                                     normal_floats(elements(c.shape), 2), offsets);
    const reference::Attention expected = reference::attention(widen(run.qkv), c.shape);
    const Doubles d_qkv =
        reference::attention_gradient(widen(run.d_out), widen(run.qkv), widen(run.out), c.shape);
    EXPECT_TRUE(near_in_rows(run.out, expected.out, 64, row_tolerance(c)));
    EXPECT_TRUE(near_in_rows(run.d_qkv, d_qkv, 64, row_tolerance(c)));
  }
}

TEST(Attention, RunsGiveTheSameBits) {
  const Case c{.shape = {.B = 1, .T = 130, .C = 64, .H = 1}, .type = DType::bf16};
  const Passes first = run_random(c), second = run_random(c);
  EXPECT_EQ(first.out, second.out);
  EXPECT_EQ(first.log_sum_exp, second.log_sum_exp);
  EXPECT_EQ(first.d_qkv, second.d_qkv);
}

// Scores of thousands: exp must not overflow, and probabilities are nearly one-hot. An error of
// one ulp of the score is then an error of 1e-4 of a probability.
TEST(Attention, LargeScoresDoNotOverflow) {
  for (const Case& c : {Case{{.B = 1, .T = 70, .C = 16, .H = 1}, DType::fp32},
                        Case{{.B = 1, .T = 70, .C = 64, .H = 1}, DType::bf16}}) {
    const Passes run = run_random(c, 50.0f);
    const reference::Attention expected = reference::attention(widen(run.qkv), c.shape);
    EXPECT_TRUE(near_in_norm(run.out, expected.out, 1e-3 + norm_tolerance(c, run.out.size())));
    EXPECT_TRUE(near_each(run.log_sum_exp, expected.log_sum_exp, 0, 1e-6));
    for (const float value : run.d_qkv) EXPECT_TRUE(std::isfinite(value));
  }
}

// A NaN in the query of one position spoils that position of that head alone; one in a key spoils
// every later position.
TEST(Attention, NanSpreadsToWhatDependsOnIt) {
  for (const Case& c : {Case{{.B = 1, .T = 70, .C = 8, .H = 2}, DType::fp32},
                        Case{{.B = 1, .T = 70, .C = 128, .H = 2}, DType::bf16}}) {
    const auto C = static_cast<std::size_t>(c.shape.C);
    const std::vector<float> clean = normal_floats(3 * elements(c.shape), 1);
    const std::vector<float> d_out = normal_floats(elements(c.shape), 2);
    constexpr std::size_t kPosition = 66;

    std::vector<float> qkv = clean;
    qkv[kPosition * 3 * C] = kNan;  // query, head 0
    const Passes query = run_attention(c, qkv, d_out);
    qkv = clean;
    qkv[3 * 3 * C + C] = kNan;  // key, head 0
    const Passes key = run_attention(c, qkv, d_out);
    for (std::size_t t = 0; t < 70; ++t) {
      const std::size_t head_0 = t * C, head_1 = head_0 + C / 2;
      EXPECT_EQ(std::isnan(query.out[head_0]), t == kPosition) << t;
      EXPECT_EQ(std::isnan(key.out[head_0]), t >= 3) << t;
      EXPECT_FALSE(std::isnan(query.out[head_1]) || std::isnan(key.out[head_1])) << t;
    }
  }
}

}  // namespace
}  // namespace lathe::test
