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

// With e = exp(-2u) the logistic function is s = 1 / (1 + e), and 1 - s is e s without
// cancellation. From |x| = 10 on the derivative is 0 or 1 within 1e-35, and e would soon leave
// float's range.
inline float gelu_derivative(float x) {
  constexpr float kFar = 10.0f;
  x = x < -kFar ? -kFar : x;  // comparisons in this order keep NaN
  x = x > kFar ? kFar : x;
  const float cubic = kGeluCubic * x * x;
  const float e = fast_exp_in_range(-kGeluTwiceScale * (x + cubic * x));
  const float logistic = 1.0f / (1.0f + e);
  const float x_slope = x * (kGeluTwiceScale * (1.0f + 3.0f * cubic));
  return logistic + logistic * (e * logistic) * x_slope;
}

}  // namespace lathe
