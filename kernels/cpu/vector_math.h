// Elementary functions without branches or calls, so that loops over them vectorise.
#pragma once

#include <bit>
#include <cstdint>

namespace lathe {

// e^x within 2 ulp, for x in [-87.4, 89]. Results below 2^-125.5 are 0, above the largest float
// infinity; NaN stays NaN.
inline float fast_exp_in_range(float x) {
  constexpr float kLog2e = 1.44269504f;
  constexpr float kLn2High = 0.693359375f;  // few bits: times an integer below 2^8 it is exact
  constexpr float kLn2Low = -2.12194440e-4f;
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer

  const float shifted = x * kLog2e + kRound;
  const float k = shifted - kRound;
  const float r = (x - k * kLn2High) - k * kLn2Low;  // x = k ln 2 + r, |r| <= ln(2) / 2
  // (e^r - 1 - r) / r^2, interpolated at Chebyshev nodes: e^r within 1.1e-8 relative.
  float p = 1.3926250831e-3f;
  p = p * r + 8.3632328837e-3f;
  p = p * r + 4.1666554213e-2f;
  p = p * r + 1.6666576666e-1f;
  p = p * r + 0.5f;
  p = (p * r) * r + r + 1.0f;
  // 2^(k-1) is a finite float for every k here, 0 for k = -126; 2^k would not be for k = 128.
  const std::uint32_t exponent =
      std::bit_cast<std::uint32_t>(shifted) - std::bit_cast<std::uint32_t>(kRound) + 126u;
  return (p + p) * std::bit_cast<float>(exponent << 23);
}

// The same for every x.
inline float fast_exp(float x) {
  constexpr float kLowest = -87.4f;  // just below ln 2^-126: the scale becomes 0
  constexpr float kHighest = 89.0f;  // above ln of the largest float
  x = x < kLowest ? kLowest : x;     // comparisons in this order keep NaN
  x = x > kHighest ? kHighest : x;
  return fast_exp_in_range(x);
}

}  // namespace lathe
