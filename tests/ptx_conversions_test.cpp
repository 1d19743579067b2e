// Conversions and the formats of 16 bits, against what C++ computes.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cfenv>
#include <cmath>

#include "support/ptx_instruction.h"

namespace lathe::test {
namespace {

template <class T>
T opaque(T value) {
  volatile T copy = value;
  return copy;
}

template <class To, class From>
To clamped(From value) {
  __extension__ using Int128 = __int128;
  constexpr Int128 low = std::numeric_limits<To>::min(), high = std::numeric_limits<To>::max();
  return static_cast<To>(std::clamp<Int128>(value, low, high));
}

template <class To, class From>
void check_integer_pair(const std::string& to, const std::string& from) {
  const std::string end = to + "." + from + " %o, %a;";
  // Results narrower than a register are extended to it.
  using Wide = std::conditional_t<std::is_signed_v<To>, std::int64_t, std::uint64_t>;
  check<Wide, From>("cvt." + end, [](From a) { return Wide(static_cast<To>(a)); });
  check<Wide, From>("cvt.sat." + end, [](From a) { return Wide(clamped<To>(a)); });
}

template <class To, class From>
void check_to_float(const std::string& to, const std::string& from) {
  struct Mode {
    const char* name;
    int direction;
  };
  for (const auto& [name, direction] : {Mode{"rn", FE_TONEAREST}, Mode{"rz", FE_TOWARDZERO},
                                        Mode{"rm", FE_DOWNWARD}, Mode{"rp", FE_UPWARD}}) {
    check<To, From>(std::string("cvt.") + name + "." + to + "." + from + " %o, %a;",
                    [d = direction](From a) {
                      std::fesetround(d);
                      const To result = opaque(static_cast<To>(opaque(a)));
                      std::fesetround(FE_TONEAREST);
                      return result;
                    });
  }
}

// By way of long double, which holds every integer of 64 bits.
template <class To>
To to_integer(long double rounded, bool wide_nan) {
  if (std::isnan(rounded))
    return wide_nan ? static_cast<To>(std::uint64_t{1} << (8 * sizeof(To) - 1)) : To{0};
  if (rounded <= static_cast<long double>(std::numeric_limits<To>::min()))
    return std::numeric_limits<To>::min();
  if (rounded >= static_cast<long double>(std::numeric_limits<To>::max()))
    return std::numeric_limits<To>::max();
  return static_cast<To>(rounded);
}

struct Rounding {
  const char* name;
  long double (*round)(long double);
};
constexpr Rounding kRoundings[] = {
    {"rni", std::nearbyint}, {"rzi", std::trunc}, {"rmi", std::floor}, {"rpi", std::ceil}};

template <class To, class From>
void check_to_integer(
    const std::string& to, const std::string& from,
    long double (*value)(From) = [](From a) -> long double { return a; }) {
  for (const auto& [name, round] : kRoundings) {
    for (const char* saturated : {"", "sat."}) {
      if (*saturated != 0 && from.size() > 3) continue;
      check<To, From>(std::string("cvt.") + name + "." + saturated + to + "." + from + " %o, %a;",
                      [&, r = round](From a) {
                        return to_integer<To>(r(value(a)), sizeof(From) == 8 || sizeof(To) == 8);
                      });
    }
  }
}

// The value of a number with `fraction` bits of fraction and the exponent's least value.
long double half_value(std::uint16_t bits, int fraction, int least) {
  const int exponent = (bits & 0x7fff) >> fraction, low = bits & ((1 << fraction) - 1);
  const int top = (1 << (15 - fraction)) - 1;
  long double magnitude = std::ldexp(static_cast<long double>(low), least - fraction);
  if (exponent > 0)
    magnitude = std::ldexp(static_cast<long double>(low + (1 << fraction)),
                           exponent - 1 + least - fraction);
  if (exponent == top) magnitude = low != 0 ? NAN : INFINITY;
  return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}
long double bf16_value(std::uint16_t bits) {
  return half_value(bits, 7, -126);
}
long double f16_value(std::uint16_t bits) {
  return half_value(bits, 10, -14);
}

struct Format {
  std::string name;
  long double (*value)(std::uint16_t);
};
const Format kFormats[] = {{"bf16", bf16_value}, {"f16", f16_value}};

// The nearest of all 65536 numbers of a format, ties to the even one; found by bisection, as the
// bits of positive numbers are in their order.
std::uint16_t nearest_half(const Format& format, long double value, bool to_zero = false) {
  if (std::isnan(value)) return 0x7fff;
  const std::uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  const long double magnitude = std::fabs(value);
  std::uint16_t low = 0, infinity = format.name == "bf16" ? 0x7f80 : 0x7c00;
  std::uint16_t high = infinity;
  if (std::isinf(magnitude)) return sign | infinity;
  while (high - low > 1) {
    const auto middle = static_cast<std::uint16_t>((low + high) / 2);
    (format.value(middle) <= magnitude ? low : high) = middle;
  }
  if (to_zero) return sign | low;
  // Above the largest number the next would be a step further, if there were one.
  const long double below = format.value(low);
  const long double step =
      format.value(low) - format.value(static_cast<std::uint16_t>(low - (low > 0)));
  const long double above = high == infinity ? below + step : format.value(high);
  const long double excess = (magnitude - below) - (above - magnitude);
  const bool up = excess > 0 || (excess == 0 && low % 2 == 1);
  return sign | (up ? high : low);
}

template <class T>
void check_integer_type(const std::string& type) {
  check_integer_pair<std::int8_t, T>("s8", type);
  check_integer_pair<std::uint8_t, T>("u8", type);
  check_integer_pair<std::int16_t, T>("s16", type);
  check_integer_pair<std::uint16_t, T>("u16", type);
  check_integer_pair<std::int32_t, T>("s32", type);
  check_integer_pair<std::uint32_t, T>("u32", type);
  check_integer_pair<std::int64_t, T>("s64", type);
  check_integer_pair<std::uint64_t, T>("u64", type);
  check_to_float<float, T>("f32", type);
  check_to_float<double, T>("f64", type);
  check_to_integer<T, float>(type, "f32");
  check_to_integer<T, double>(type, "f64");
  check_to_integer<T, std::uint16_t>(type, "bf16", bf16_value);
  check_to_integer<T, std::uint16_t>(type, "f16", f16_value);
  if constexpr (sizeof(T) < 8) {
    for (const Format& format : kFormats) {
      check<std::uint16_t, T>("cvt.rn." + format.name + "." + type + " %o, %a;",
                              [&](T a) { return nearest_half(format, a); });
    }
  }
}

void check_numbers() {
  check_integer_type<std::int8_t>("s8");
  check_integer_type<std::uint8_t>("u8");
  check_integer_type<std::int16_t>("s16");
  check_integer_type<std::uint16_t>("u16");
  check_integer_type<std::int32_t>("s32");
  check_integer_type<std::uint32_t>("u32");
  check_integer_type<std::int64_t>("s64");
  check_integer_type<std::uint64_t>("u64");
  check_to_float<float, double>("f32", "f64");
  check<double, float>("cvt.f64.f32 %o, %a;", [](float a) { return double{a}; });
  check<float, float>("cvt.f32.f32 %o, %a;", [](float a) { return a; });
  check<double, double>("cvt.f64.f64 %o, %a;", [](double a) { return a; });
  check<float, float>("cvt.sat.f32.f32 %o, %a;",
                      [](float a) { return a > 0 ? std::min(a, 1.0f) : 0.0f; });
  for (const auto& [name, round] : kRoundings) {
    const std::string begin = std::string("cvt.") + name;
    check<float, float>(begin + ".f32.f32 %o, %a;", [r = round](float a) { return float(r(a)); });
    check<double, double>(begin + ".f64.f64 %o, %a;",
                          [r = round](double a) { return double(r(a)); });
  }
  const auto tf32 = [](float a, std::uint32_t tie) {
    const auto bits = std::bit_cast<std::uint32_t>(a);
    return std::isfinite(a) ? (bits + tie) >> 13 << 13 : bits;
  };
  check<std::uint32_t, float>("cvt.rna.tf32.f32 %o, %a;", [&](float a) { return tf32(a, 0x1000); });
  check<std::uint32_t, float>("cvt.rn.tf32.f32 %o, %a;", [&](float a) {
    return tf32(a, 0xfff + (std::bit_cast<std::uint32_t>(a) >> 13 & 1));
  });
}

void check_half_conversions() {
  using H = std::uint16_t;
  for (const Format& f : kFormats) {
    const auto nearest = [&f](long double a) { return nearest_half(f, a); };
    const auto to_zero = [&f](long double a) { return nearest_half(f, a, true); };
    const auto relu = [&f](long double a) { return nearest_half(f, a < 0 ? 0 : a); };
    check<H, float>("cvt.rn." + f.name + ".f32 %o, %a;", nearest);
    check<H, float>("cvt.rz." + f.name + ".f32 %o, %a;", to_zero);
    check<H, float>("cvt.rn.relu." + f.name + ".f32 %o, %a;", relu);
    check<H, double>("cvt.rn." + f.name + ".f64 %o, %a;", nearest);
    check<float, H>("cvt.f32." + f.name + " %o, %a;", [&](H a) { return float(f.value(a)); });
    check<double, H>("cvt.f64." + f.name + " %o, %a;", [&](H a) { return double(f.value(a)); });
    const auto two = [](const auto& convert) {
      return [convert](float a, float b) { return std::uint32_t{convert(a)} << 16 | convert(b); };
    };
    check<std::uint32_t, float, float>("cvt.rn." + f.name + "x2.f32 %o, %a, %b;", two(nearest));
    check<std::uint32_t, float, float>("cvt.rz." + f.name + "x2.f32 %o, %a, %b;", two(to_zero));
    check<std::uint32_t, float, float>("cvt.rn.relu." + f.name + "x2.f32 %o, %a, %b;", two(relu));
  }
}

// The operation on the lower half, and on both halves of two equal ones.
template <std::size_t Count, class Operation>
void check_half_operation(const Format& f, const std::string& name, const std::string& operands,
                          const Operation& operation) {
  std::vector<std::uint16_t> values = edge_values<std::uint16_t>();
  for (const float v : {1.0f, -1.0f, 0.5f, 1.5f, -3.25f, 100.0f, 0.01f, INFINITY, NAN, -0.0f})
    values.push_back(nearest_half(f, v));
  std::vector<Operands> inputs;
  for (const std::uint64_t a : values) {
    for (const std::uint64_t b : values) inputs.push_back({a | b << 16, b | a << 16, a | a << 16});
  }
  const auto half = [&](const Operands& o, int shift) {
    const auto part = [&](std::uint64_t bits) {
      return f.value(static_cast<std::uint16_t>(bits >> shift));
    };
    const std::array<long double, 3> all = {part(o.a), part(o.b), part(o.c)};
    return [&]<std::size_t... I>(std::index_sequence<I...>) {
      return nearest_half(f, operation(all[I]...));
    }
    (std::make_index_sequence<Count>{});
  };
  expect_all<std::uint16_t>(name + "." + f.name + " %o, " + operands + ";", inputs,
                            [&](const Operands& o) { return half(o, 0); });
  expect_all<std::uint32_t>(
      name + "." + f.name + "x2 %o, " + operands + ";", inputs,
      [&](const Operands& o) { return std::uint32_t{half(o, 16)} << 16 | half(o, 0); });
}

void check_half_arithmetic() {
  using L = long double;
  for (const Format& f : kFormats) {
    check_half_operation<2>(f, "add.rn", "%a, %b", [](L a, L b) { return a + b; });
    check_half_operation<2>(f, "sub", "%a, %b", [](L a, L b) { return a - b; });
    check_half_operation<2>(f, "mul", "%a, %b", [](L a, L b) { return a * b; });
    check_half_operation<3>(f, "fma.rn", "%a, %b, %c", [](L a, L b, L c) { return a * b + c; });
    check_half_operation<3>(f, "fma.rn.relu", "%a, %b, %c",
                            [](L a, L b, L c) { return a * b + c < 0 ? 0 : a * b + c; });
    const auto lower = [](L a, L b) {
      if (std::isnan(a) || std::isnan(b)) return std::isnan(a) ? b : a;
      return a < b || (a == b && std::signbit(a)) ? a : b;
    };
    const auto nan = [](L a, L b) { return std::isnan(a) || std::isnan(b); };
    check_half_operation<2>(f, "min", "%a, %b", lower);
    check_half_operation<2>(f, "max", "%a, %b", [&](L a, L b) { return -lower(-a, -b); });
    check_half_operation<2>(f, "min.NaN", "%a, %b",
                            [&](L a, L b) { return nan(a, b) ? NAN : lower(a, b); });
    check_half_operation<2>(f, "max.NaN", "%a, %b",
                            [&](L a, L b) { return nan(a, b) ? NAN : -lower(-a, -b); });
    check_half_operation<1>(f, "ex2.approx", "%a",
                            [](L a) { return std::exp2(static_cast<double>(a)); });
    check_half_operation<1>(f, "tanh.approx", "%a",
                            [](L a) { return std::tanh(static_cast<double>(a)); });
    check<std::uint16_t, std::uint16_t>("neg." + f.name + " %o, %a;",
                                        [](std::uint16_t a) { return a ^ 0x8000; });
    check<std::uint16_t, std::uint16_t>("abs." + f.name + " %o, %a;",
                                        [](std::uint16_t a) { return a & 0x7fff; });
    check<std::uint32_t, std::uint32_t>("neg." + f.name + "x2 %o, %a;",
                                        [](std::uint32_t a) { return a ^ 0x80008000; });
    check<std::uint32_t, std::uint32_t>("abs." + f.name + "x2 %o, %a;",
                                        [](std::uint32_t a) { return a & 0x7fff7fff; });
  }
  // Rounded once: 1.0625^2 lies in the middle of two numbers, and 2^-100 decides. Double forgets
  // it.
  expect_all<std::uint16_t>("fma.rn.bf16 %o, %a, %b, %c;",
                            {{0x3f88, 0x3f88, 0x0d80}, {0x3f88, 0x3f88, 0x8d80}},
                            [](const Operands& o) { return o.c == 0x0d80 ? 0x3f91 : 0x3f90; });
}

TEST(PtxConversions, Numbers) {
  check_numbers();
}
TEST(PtxConversions, Halves) {
  check_half_conversions();
}
TEST(PtxConversions, HalfArithmetic) {
  check_half_arithmetic();
}

TEST(PtxConversions, EveryOneIsTested) {
  exercised().clear();
  check_numbers();
  check_half_conversions();
  check_half_arithmetic();
  EXPECT_EQ(forms_not_exercised([](const std::string& key) {
              const bool half = key.find("f16") != std::string::npos && !key.starts_with("setp.") &&
                                !key.starts_with("mov.");
              return is_elementwise(key) && (half || key.starts_with("cvt."));
            }),
            std::vector<std::string>{});
}

}  // namespace
}  // namespace lathe::test
