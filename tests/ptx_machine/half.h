// The two floating-point formats of 16 bits, by their bits. Arithmetic is done in double, where
// sums and products of them are exact but for what round_to_odd makes up for.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

namespace lathe::ptx {

struct Bf16Format {
  static constexpr int kFractionBits = 7;
  static constexpr int kMinExponent = -126;
  static constexpr int kMaxExponent = 127;
};
struct F16Format {
  static constexpr int kFractionBits = 10;
  static constexpr int kMinExponent = -14;
  static constexpr int kMaxExponent = 15;
};

template <class Format>
inline constexpr int kExponentBits = 15 - Format::kFractionBits;
template <class Format>
inline constexpr std::uint16_t kInfinityBits =
    static_cast<std::uint16_t>(((1u << kExponentBits<Format>)-1) << Format::kFractionBits);

constexpr std::uint16_t kCanonicalNan = 0x7fff;

template <class Format>
double from_half(std::uint16_t bits) {
  const double sign = (bits & 0x8000) != 0 ? -1.0 : 1.0;
  const int exponent = (bits & 0x7fff) >> Format::kFractionBits;
  const int fraction = bits & ((1 << Format::kFractionBits) - 1);
  constexpr int kTop = (1 << kExponentBits<Format>)-1;
  if (exponent == kTop) return fraction != 0 ? NAN : sign * INFINITY;
  const int significand = exponent == 0 ? fraction : fraction | 1 << Format::kFractionBits;
  const int scale = (exponent == 0 ? 1 : exponent) + Format::kMinExponent - 1;
  return sign * std::ldexp(significand, scale - Format::kFractionBits);
}
// The usual case without a detour.
template <>
inline double from_half<Bf16Format>(std::uint16_t bits) {
  return std::bit_cast<float>(std::uint32_t{bits} << 16);
}

// `round` makes an integer of a double: std::nearbyint or std::trunc.
template <class Format>
std::uint16_t to_half(double value, double (*round)(double) = std::nearbyint) {
  if (std::isnan(value)) return kCanonicalNan;
  const std::uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  const double magnitude = std::fabs(value);
  if (std::isinf(magnitude)) return sign | kInfinityBits<Format>;
  int exponent = Format::kMinExponent;
  if (magnitude > 0) exponent = std::max(exponent, std::ilogb(magnitude));
  // In units of the last place; may reach the next power of two, which is right as it stands.
  const double units = round(std::ldexp(magnitude, Format::kFractionBits - exponent));
  const auto significand = static_cast<std::int64_t>(units);
  std::int64_t bits = significand;
  const std::int64_t one = std::int64_t{1} << Format::kFractionBits;
  if (significand >= one) bits = significand + (exponent - Format::kMinExponent) * one;
  const std::int64_t infinity = kInfinityBits<Format>;
  if (bits >= infinity) bits = round(0.75) == 0.0 ? infinity - 1 : infinity;
  return static_cast<std::uint16_t>(sign | bits);
}

// a + b such that rounding it once more gives the correctly rounded sum (Boldo & Melquiond 2008).
inline double round_to_odd(double a, double b) {
  const double sum = a + b;
  if (!std::isfinite(sum)) return sum;
  const double b_part = sum - a;
  const double error = (a - (sum - b_part)) + (b - b_part);
  if (error == 0 || (std::bit_cast<std::uint64_t>(sum) & 1) != 0) return sum;
  return std::nextafter(sum, error > 0 ? INFINITY : -INFINITY);
}

}  // namespace lathe::ptx
