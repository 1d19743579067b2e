// GELU in its tanh form (Hendrycks & Gimpel 2016), as GPT-2 has it:
// gelu(x) = x (1 + tanh u) / 2 with u = sqrt(2/pi) (x + 0.044715 x^3). Since (1 + tanh u) / 2 is
// the logistic function of 2u, one exponential does, and the far negative side loses no digits.
#pragma once

#include <cmath>

#include "vector_math.h"

namespace lathe {

inline constexpr float kGeluCubic = 0.044715f;
inline constexpr float kGeluTwiceScale = 1.5957691216057308f;  // 2 sqrt(2/pi)

inline float gelu(float x) {
  const float twice_u = kGeluTwiceScale * (x + kGeluCubic * x * x * x);
  return x / (1.0f + fast_exp(-twice_u));
}

// With e = exp(-2|u|) nothing overflows: the logistic function of 2|u| is 1 / (1 + e), its
// derivative e / (1 + e)^2, and the other side is symmetric.
inline float gelu_derivative(float x) {
  float cubic = kGeluCubic * x * x;
  cubic = cubic > 1e4f ? 1e4f : cubic;  // far out the result is 0 or 1, and must not meet infinity
  const float twice_u = kGeluTwiceScale * (x + cubic * x);
  const float e = fast_exp(-std::abs(twice_u));
  const float other = 1.0f / (1.0f + e);
  const float logistic = x < 0 ? e * other : other;
  return logistic + x * (e * other * other) * (kGeluTwiceScale * (1.0f + 3.0f * cubic));
}

}  // namespace lathe
