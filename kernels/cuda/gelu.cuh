// GELU in its tanh form (Hendrycks & Gimpel 2016), as GPT-2 has it:
// gelu(x) = x (1 + tanh u) / 2 with u = sqrt(2/pi) (x + 0.044715 x^3). Since (1 + tanh u) / 2 is
// the logistic function of 2u, one exponential does, and the far negative side loses no digits.
#pragma once

namespace lathe::cuda {

inline constexpr float kGeluCubic = 0.044715f;
inline constexpr float kGeluTwiceScale = 1.5957691216057308f;  // 2 sqrt(2/pi)

__device__ inline float gelu(float x) {
  return x / (1.0f + expf(-kGeluTwiceScale * (x + kGeluCubic * x * x * x)));
}

// With e = exp(-2|u|) nothing overflows: the logistic function of 2|u| is 1 / (1 + e), its
// derivative e / (1 + e)^2, and the other side is symmetric.
__device__ inline float gelu_derivative(float x) {
  // Far out the result is 0 or 1, and must not meet infinity.
  const float cubic = fminf(kGeluCubic * x * x, 1e4f);
  const float e = expf(-fabsf(kGeluTwiceScale * (x + cubic * x)));
  const float other = 1.0f / (1.0f + e);
  const float logistic = x < 0 ? e * other : other;
  return logistic + x * (e * other * other) * (kGeluTwiceScale * (1.0f + 3.0f * cubic));
}

}  // namespace lathe::cuda
