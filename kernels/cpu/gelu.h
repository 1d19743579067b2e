// GELU in its tanh form (Hendrycks & Gimpel 2016), as GPT-2 has it:
// gelu(x) = x (1 + tanh u) / 2 with u = sqrt(2/pi) (x + 0.044715 x^3). Since (1 + tanh u) / 2 is
// the logistic function of 2u, one exponential does, and the far negative side loses no digits.
#pragma once

#include "vector_math.h"

namespace lathe {

inline constexpr float kGeluCubic = 0.044715f;
inline constexpr float kGeluTwiceScale = 1.5957691216057308f;  // 2 sqrt(2/pi)

inline float gelu(float x) {
  const float twice_u = kGeluTwiceScale * (x + kGeluCubic * x * x * x);
  return x / (1.0f + fast_exp(-twice_u));
}

inline float gelu_derivative(float x) {
  // Past 10 on either side it is 1 or 0 to all digits, and nothing here may overflow.
  x = x > 10.0f ? 10.0f : x;
  x = x < -10.0f ? -10.0f : x;
  const float cubic = kGeluCubic * x * x;
  const float exponential = fast_exp(-kGeluTwiceScale * (x + cubic * x));
  const float logistic = 1.0f / (1.0f + exponential);  // 1 - logistic is exponential * logistic
  const float d_twice_u = kGeluTwiceScale * (1.0f + 3.0f * cubic);
  return logistic + x * logistic * (exponential * logistic) * d_twice_u;
}

}  // namespace lathe
