// The operations as plain float64 loops, written from their definitions: what kernels are compared
// with. Nothing here is shared with the kernels.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace lathe::test::reference {

using Doubles = std::vector<double>;

Doubles widen(std::span<const float> values);

// Gradient of sum(weights * f(x)) by central differences. In float64 with step 1e-5 truncation
// (step^2) and cancellation (1e-16 / step) both stay below 1e-9: far below fp32 rounding.
Doubles central_differences(const std::function<Doubles(const Doubles&)>& f, Doubles x,
                            const Doubles& weights);

struct LayerNorm {
  Doubles out, mean, rstd;
};
struct LayerNormGradients {
  Doubles d_x, d_gain, d_bias;
};
// x (N, C), gain (C), bias (C)
LayerNorm layernorm(const Doubles& x, const Doubles& gain, const Doubles& bias);
LayerNormGradients layernorm_gradients(const Doubles& d_out, const Doubles& x, const Doubles& gain);

struct AttentionShape {
  std::int64_t B, T, C, H;
};
struct Attention {
  Doubles out, log_sum_exp;
};
Attention attention(const Doubles& qkv, const AttentionShape& shape);
// `out` is the output as it was stored, rounded or not: the gradient starts from it.
Doubles attention_gradient(const Doubles& d_out, const Doubles& qkv, const Doubles& out,
                           const AttentionShape& shape);

struct CrossEntropy {
  Doubles losses, d_logits;
};
// logits (N, Vp), of which vocab columns count.
struct VocabShape {
  std::int64_t vocab, padded;
};
CrossEntropy cross_entropy(const Doubles& logits, std::span<const std::int32_t> targets,
                           const VocabShape& shape, double scale);

struct AdamW {
  double learning_rate, beta1, beta2, eps, weight_decay, grad_clip;
};
struct AdamWState {
  Doubles parameter, m, v;
};
// Update number `step`, from 1; decays[i] says whether weight_decay applies to parameter i.
void adamw(AdamWState& state, const Doubles& gradient, const std::vector<bool>& decays,
           const AdamW& options, std::int64_t step);

}  // namespace lathe::test::reference
