// Bits do not depend on the number of threads, for every operation but the linear layer. Shapes
// give each operation several tasks, the last of them a part.
#include <gtest/gtest.h>

#include <functional>

#include "lathe/backend.h"
#include "support/compare.h"
#include "support/device_tensors.h"

namespace lathe::test {
namespace {

using Bytes = std::vector<std::byte>;

Bytes bytes_of(Backend& backend, std::initializer_list<Tensor> tensors) {
  Bytes all;
  for (const Tensor& tensor : tensors) {
    const Bytes bytes = to_bytes(backend, tensor);
    all.insert(all.end(), bytes.begin(), bytes.end());
  }
  return all;
}

std::vector<std::int32_t> repeating_tokens(std::int64_t count, std::int64_t vocab) {
  std::vector<std::int32_t> tokens;
  for (std::int64_t i = 0; i < count; ++i) {
    tokens.push_back(static_cast<std::int32_t>(i * i % vocab));
  }
  return tokens;
}

// The results of `run` on backends of 2, 3 and 5 threads, three times each, equal those on 1.
void expect_same_bits(const std::function<Bytes(Backend&)>& run) {
  const Bytes expected = run(*make_cpu_backend(1));
  ASSERT_FALSE(expected.empty());
  for (const int threads : {2, 3, 5}) {
    auto backend = make_cpu_backend(threads);
    for (int repeat = 0; repeat < 3; ++repeat) {
      EXPECT_TRUE(same_bits(run(*backend), expected)) << threads << " threads";
    }
  }
}

class KernelThreads : public testing::TestWithParam<DType> {};

TEST_P(KernelThreads, Embedding) {
  constexpr std::int64_t kB = 2, kT = 67, kC = 100, kVocab = 11;
  expect_same_bits([](Backend& backend) {
    const DType type = GetParam();
    const auto tokens = to_device(backend, {kB, kT}, repeating_tokens(kB * kT, kVocab));
    const auto token_table = to_device(backend, type, {kVocab, kC}, normal_floats(kVocab * kC, 1));
    const auto positions = to_device(backend, type, {kT + 9, kC}, normal_floats((kT + 9) * kC, 2));
    const auto out = zeros(backend, type, {kB, kT, kC});
    const auto d_token = zeros(backend, DType::fp32, {kVocab, kC});
    const auto d_position = zeros(backend, DType::fp32, {kT + 9, kC});
    backend.run(EmbeddingForward{
        .out = out, .tokens = tokens, .token_table = token_table, .position_table = positions});
    backend.run(EmbeddingBackward{.d_token_table = d_token,
                                  .d_position_table = d_position,
                                  .d_out = out,
                                  .tokens = tokens,
                                  .accumulate = true});
    return bytes_of(backend, {out, d_token, d_position});
  });
}

TEST_P(KernelThreads, LayerNorm) {
  constexpr std::int64_t kN = 135, kC = 100;
  expect_same_bits([](Backend& backend) {
    const DType type = GetParam();
    const auto x = to_device(backend, type, {kN, kC}, normal_floats(kN * kC, 1));
    const auto d_out = to_device(backend, type, {kN, kC}, normal_floats(kN * kC, 2));
    const auto gain = to_device(backend, type, {kC}, normal_floats(kC, 3));
    const auto bias = to_device(backend, type, {kC}, normal_floats(kC, 4));
    const auto out = zeros(backend, type, {kN, kC}), d_x = zeros(backend, type, {kN, kC});
    const auto mean = zeros(backend, DType::fp32, {kN}), rstd = zeros(backend, DType::fp32, {kN});
    const auto d_gain = zeros(backend, DType::fp32, {kC});
    const auto d_bias = zeros(backend, DType::fp32, {kC});
    backend.run(LayerNormForward{
        .out = out, .mean = mean, .rstd = rstd, .x = x, .gain = gain, .bias = bias});
    backend.run(LayerNormBackward{.d_x = d_x,
                                  .d_gain = d_gain,
                                  .d_bias = d_bias,
                                  .d_out = d_out,
                                  .d_residual = d_out,
                                  .x = x,
                                  .gain = gain,
                                  .mean = mean,
                                  .rstd = rstd,
                                  .accumulate = true});
    return bytes_of(backend, {out, mean, rstd, d_x, d_gain, d_bias});
  });
}

TEST_P(KernelThreads, Attention) {
  constexpr std::int64_t kB = 2, kT = 150, kC = 60, kH = 3;
  expect_same_bits([](Backend& backend) {
    const DType type = GetParam();
    const auto qkv = to_device(backend, type, {kB, kT, 3 * kC}, normal_floats(kB * kT * 3 * kC, 1));
    const auto d_out = to_device(backend, type, {kB, kT, kC}, normal_floats(kB * kT * kC, 2));
    const auto out = zeros(backend, type, {kB, kT, kC});
    const auto d_qkv = zeros(backend, type, {kB, kT, 3 * kC});
    const auto log_sum_exp = zeros(backend, DType::fp32, {kB, kH, kT});
    backend.run(AttentionForward{.out = out, .log_sum_exp = log_sum_exp, .qkv = qkv});
    backend.run(AttentionBackward{
        .d_qkv = d_qkv, .d_out = d_out, .qkv = qkv, .out = out, .log_sum_exp = log_sum_exp});
    return bytes_of(backend, {out, log_sum_exp, d_qkv});
  });
}

TEST_P(KernelThreads, AttentionCached) {
  constexpr std::int64_t kB = 2, kH = 3, kD = 20, kC = kH * kD, kS = 150;
  expect_same_bits([](Backend& backend) {
    const DType type = GetParam();
    const auto keys = zeros(backend, type, {kB, kH, kS, kD});
    const auto values = zeros(backend, type, {kB, kH, kS, kD});
    Bytes all;
    std::int64_t begin = 0;
    for (const std::int64_t T : {140, 3, 1}) {
      const auto qkv = to_device(backend, type, {kB, T, 3 * kC}, normal_floats(kB * T * 3 * kC, 1));
      const auto out = zeros(backend, type, {kB, T, kC});
      backend.run(
          AttentionCached{.out = out, .keys = keys, .values = values, .qkv = qkv, .begin = begin});
      const Bytes step = bytes_of(backend, {out, keys, values});
      all.insert(all.end(), step.begin(), step.end());
      begin += T;
    }
    return all;
  });
}

TEST_P(KernelThreads, CrossEntropy) {
  constexpr std::int64_t kN = 23, kVocab = 1100, kPadded = 1152;
  expect_same_bits([](Backend& backend) {
    const DType type = GetParam();
    const auto logits = to_device(backend, type, {kN, kPadded}, normal_floats(kN * kPadded, 1));
    const auto targets = to_device(backend, {kN}, repeating_tokens(kN, kVocab));
    const auto losses = zeros(backend, DType::fp32, {kN});
    const auto sum = zeros(backend, DType::fp32, {1});
    backend.run(CrossEntropy{.losses = losses,
                             .d_logits = logits,
                             .logits = logits,
                             .targets = targets,
                             .vocab = kVocab,
                             .scale = 0.1f});
    backend.run(Sum{.out = sum, .x = losses, .accumulate = false});
    return bytes_of(backend, {losses, logits, sum});
  });
}

TEST_P(KernelThreads, AdamWAndFlatMemory) {
  constexpr std::int64_t kCount = 100003;
  const std::vector<ElementRange> decayed{{7, 40000}, {65536, 90001}};
  expect_same_bits([&](Backend& backend) {
    const DType type = GetParam();
    const auto gradient = to_device(backend, DType::fp32, {kCount}, normal_floats(kCount, 1));
    const auto master = to_device(backend, DType::fp32, {kCount}, normal_floats(kCount, 2));
    const auto converted = zeros(backend, type, {kCount}), filled = zeros(backend, type, {kCount});
    const auto m = zeros(backend, DType::fp32, {kCount}), v = zeros(backend, DType::fp32, {kCount});
    const auto square_sum = zeros(backend, DType::fp32, {1});
    const auto loss_sum = zeros(backend, DType::fp32, {1});
    backend.run(Convert{.out = converted, .x = master});
    backend.run(Fill{.out = filled, .value = 2.5f});
    backend.run(SumOfSquares{.out = square_sum, .x = gradient});
    backend.run(AdamWUpdate{.parameter = converted,
                            .master = type == DType::bf16 ? master.tensor() : Tensor(),
                            .m = m,
                            .v = v,
                            .gradient = gradient,
                            .grad_square_sum = square_sum,
                            .loss_sum = loss_sum,
                            .decayed = decayed,
                            .limits = {},
                            .step = 1,
                            .learning_rate = 1e-3,
                            .beta1 = 0.9,
                            .beta2 = 0.95,
                            .eps = 1e-8,
                            .weight_decay = 0.1,
                            .grad_clip = 1.0});
    return bytes_of(backend, {converted, master, m, v, square_sum, filled});
  });
}

INSTANTIATE_TEST_SUITE_P(Types, KernelThreads, testing::Values(DType::fp32, DType::bf16),
                         [](const auto& test_case) { return to_string(test_case.param); });

}  // namespace
}  // namespace lathe::test
