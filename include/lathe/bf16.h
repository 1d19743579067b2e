// bfloat16: the upper half of an IEEE-754 single, rounded to nearest even. Storage only: all
// arithmetic is done in float.
#pragma once

#include <bit>
#include <cstdint>

namespace lathe {

struct Bf16 {
  std::uint16_t bits;
};

inline float to_float(Bf16 x) {
  return std::bit_cast<float>(std::uint32_t{x.bits} << 16);
}
inline float to_float(float x) {
  return x;
}

// Branch-free so that loops over it vectorise. A NaN stays a NaN (quiet bit set).
inline Bf16 to_bf16(float x) {
  const auto u = std::bit_cast<std::uint32_t>(x);
  const std::uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  const std::uint32_t quiet_nan = (u >> 16) | 0x40u;
  return Bf16{static_cast<std::uint16_t>((u & 0x7fffffffu) > 0x7f800000u ? quiet_nan : rounded)};
}

// Stores a float as T, which is float or Bf16.
template <class T>
T from_float(float x);
template <>
inline float from_float<float>(float x) {
  return x;
}
template <>
inline Bf16 from_float<Bf16>(float x) {
  return to_bf16(x);
}

}  // namespace lathe
