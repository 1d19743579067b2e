// Every instruction that works on registers alone, against what C++ computes, on the edge values of
// its types.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cfenv>
#include <cmath>

#include "support/ptx_instruction.h"

namespace lathe::test {
namespace {

__extension__ using Int128 = __int128;
__extension__ using Uint128 = unsigned __int128;

// Sums of any integers up to 64 bits fit, and products modulo 2^128.
template <class T>
Int128 wide(T value) {
  return static_cast<Int128>(value);
}
template <class T>
Uint128 product(T a, T b) {
  return static_cast<Uint128>(wide(a)) * static_cast<Uint128>(wide(b));
}

template <class T>
void check_division(const std::string& type) {
  std::vector<Operands> operands;
  for (const T a : edge_values<T>()) {
    for (const T b : edge_values<T>()) {
      if (b != 0) operands.push_back({to_bits(a), to_bits(b)});
    }
  }
  expect_all<T>("div." + type + " %o, %a, %b;", operands, [](const Operands& o) {
    return T(wide(from_bits<T>(o.a)) / wide(from_bits<T>(o.b)));
  });
  expect_all<T>("rem." + type + " %o, %a, %b;", operands, [](const Operands& o) {
    return T(wide(from_bits<T>(o.a)) % wide(from_bits<T>(o.b)));
  });
}

template <class T, class Wide>
void check_integer_arithmetic(const std::string& type) {
  constexpr int kBits = 8 * sizeof(T);
  const std::string two = "." + type + " %o, %a, %b;", three = "." + type + " %o, %a, %b, %c;";
  const auto low = [](T a, T b) { return T(product(a, b)); };
  const auto high = [](T a, T b) { return T(product(a, b) >> kBits); };
  check<T, T, T>("add" + two, [](T a, T b) { return T(wide(a) + wide(b)); });
  check<T, T, T>("sub" + two, [](T a, T b) { return T(wide(a) - wide(b)); });
  check<T, T, T>("min" + two, [](T a, T b) { return std::min(a, b); });
  check<T, T, T>("max" + two, [](T a, T b) { return std::max(a, b); });
  check<T, T, T>("mul.lo" + two, low);
  check<T, T, T>("mul.hi" + two, high);
  check<T, T, T, T>("mad.lo" + three, [&](T a, T b, T c) { return T(wide(low(a, b)) + wide(c)); });
  check<T, T, T, T>("mad.hi" + three, [&](T a, T b, T c) { return T(wide(high(a, b)) + wide(c)); });
  check<T, T, T, T>("sad" + three, [](T a, T b, T c) {
    return T(wide(c) + (a > b ? wide(a) - wide(b) : wide(b) - wide(a)));
  });
  check_division<T>(type);
  if constexpr (kBits < 64) {
    check<Wide, T, T>("mul.wide" + two, [](T a, T b) { return Wide(wide(a) * wide(b)); });
    check<Wide, T, T, Wide>("mad.wide" + three,
                            [](T a, T b, Wide c) { return Wide(wide(a) * wide(b) + wide(c)); });
  }
  if constexpr (std::is_signed_v<T>) {
    check<T, T>("neg." + type + " %o, %a;", [](T a) { return T(-wide(a)); });
    check<T, T>("abs." + type + " %o, %a;", [](T a) { return T(a < 0 ? -wide(a) : wide(a)); });
  }
}

void check_integers() {
  check_integer_arithmetic<std::int16_t, std::int32_t>("s16");
  check_integer_arithmetic<std::uint16_t, std::uint32_t>("u16");
  check_integer_arithmetic<std::int32_t, std::int64_t>("s32");
  check_integer_arithmetic<std::uint32_t, std::uint64_t>("u32");
  check_integer_arithmetic<std::int64_t, void>("s64");
  check_integer_arithmetic<std::uint64_t, void>("u64");
  using I = std::int32_t;
  const auto clamped = [](std::int64_t v) {
    return static_cast<I>(std::clamp<std::int64_t>(v, INT32_MIN, INT32_MAX));
  };
  check<I, I, I>("add.sat.s32 %o, %a, %b;", [&](I a, I b) { return clamped(std::int64_t{a} + b); });
  check<I, I, I>("sub.sat.s32 %o, %a, %b;", [&](I a, I b) { return clamped(std::int64_t{a} - b); });
}

template <class T>
void check_logic(const std::string& type) {
  const std::string two = "." + type + " %o, %a, %b;", one = "." + type + " %o, %a;";
  check<T, T, T>("and" + two, [](T a, T b) { return T(a & b); });
  check<T, T, T>("or" + two, [](T a, T b) { return T(a | b); });
  check<T, T, T>("xor" + two, [](T a, T b) { return T(a ^ b); });
  check<T, T>("not" + one, [](T a) { return T(~a); });
  check<T, T>("cnot" + one, [](T a) { return T(a == 0); });
  check<T, T>("mov" + one, [](T a) { return a; });
  check<T, T, std::uint32_t>("shl" + two, [](T a, std::uint32_t b) {
    return b < 8 * sizeof(T) ? T(Uint128{a} << b) : T(0);
  });
}

template <class T>
void check_shift_right(const std::string& type) {
  check<T, T, std::uint32_t>("shr." + type + " %o, %a, %b;",
                             [](T a, std::uint32_t b) { return T(wide(a) >> std::min(b, 64u)); });
}

template <class T>
void check_fields(const std::string& type, const std::string& bits_type) {
  using U = std::make_unsigned_t<T>;
  constexpr int kBits = 8 * sizeof(T);
  // The field of the value with its sign repeated for ever, then its own sign repeated.
  check<T, T, std::uint8_t, std::uint8_t>(
      "bfe." + type + " %o, %a, %b, %c;", [](T a, std::uint8_t at, std::uint8_t count) {
        if (count == 0) return T(0);
        if (at >= kBits) return T(std::is_signed_v<T> && a < 0 ? -1 : 0);
        const int length = std::min<int>(count, kBits - at), above = kBits - length;
        return T(T(U(U(a) >> at) << above) >> above);
      });
  check<std::uint32_t, T>("bfind." + type + " %o, %a;", [](T a) {
    const U bits = a < 0 ? U(~a) : U(a);
    return bits == 0 ? ~0u : static_cast<std::uint32_t>(std::bit_width(bits) - 1);
  });
  check<std::uint32_t, T>("bfind.shiftamt." + type + " %o, %a;", [](T a) {
    const U bits = a < 0 ? U(~a) : U(a);
    return bits == 0 ? ~0u : static_cast<std::uint32_t>(kBits - std::bit_width(bits));
  });
  if constexpr (std::is_unsigned_v<T>) {
    std::vector<Operands> operands;
    for (const T a : edge_values<T>()) {
      for (std::uint64_t at : {0, 1, 8, 31, 32, 63, 64, 255}) {
        for (std::uint64_t count : {0, 1, 5, 32, 64, 255})
          operands.push_back({to_bits(a), 0x5a3c'0ff0'1234'8765, at, count});
      }
    }
    expect_all<T>("bfi." + bits_type + " %o, %a, %b, %c, %d;", operands, [](const Operands& o) {
      T result = static_cast<T>(o.b);
      for (std::uint64_t i = 0; i < o.d && o.c + i < kBits; ++i) {
        const T bit = T(i < kBits ? o.a >> i & 1 : 0);
        result = T((result & ~(T{1} << (o.c + i))) | bit << (o.c + i));
      }
      return result;
    });
    check<std::uint32_t, T>("popc." + bits_type + " %o, %a;", [](T a) { return std::popcount(a); });
    check<std::uint32_t, T>("clz." + bits_type + " %o, %a;",
                            [](T a) { return std::countl_zero(a); });
    check<T, T>("brev." + bits_type + " %o, %a;", [](T a) {
      T out = 0;
      for (int i = 0; i < kBits; ++i) out = T(out * 2 + (a >> i & 1));
      return out;
    });
  }
}

void check_bits() {
  using U = std::uint32_t;
  check_logic<std::uint16_t>("b16");
  check_logic<std::uint32_t>("b32");
  check_logic<std::uint64_t>("b64");
  check_shift_right<std::uint16_t>("b16");
  check_shift_right<std::int16_t>("s16");
  check_shift_right<std::int32_t>("s32");
  check_shift_right<std::uint32_t>("u32");
  check_shift_right<std::int64_t>("s64");
  check_shift_right<std::uint64_t>("b64");
  check_fields<std::int32_t>("s32", "b32");
  check_fields<std::uint32_t>("u32", "b32");
  check_fields<std::int64_t>("s64", "b64");
  check_fields<std::uint64_t>("u64", "b64");
  const auto both = [](U low, U high) { return std::uint64_t{high} << 32 | low; };
  check<U, U, U, U>("shf.l.wrap.b32 %o, %a, %b, %c;",
                    [&](U a, U b, U c) { return U(both(a, b) << (c % 32) >> 32); });
  check<U, U, U, U>("shf.l.clamp.b32 %o, %a, %b, %c;",
                    [&](U a, U b, U c) { return c >= 32 ? a : U(both(a, b) << c >> 32); });
  check<U, U, U, U>("shf.r.wrap.b32 %o, %a, %b, %c;",
                    [&](U a, U b, U c) { return U(both(a, b) >> (c % 32)); });
  check<U, U, U, U>("shf.r.clamp.b32 %o, %a, %b, %c;",
                    [&](U a, U b, U c) { return c >= 32 ? b : U(both(a, b) >> c); });
  check<U, U, U, U>("lop3.b32 %o, %a, %b, %c, 0xe8;",
                    [](U a, U b, U c) { return (a & b) | (b & c) | (a & c); });
  check<U, U, U, U>("lop3.b32 %o, %a, %b, %c, 0x96;", [](U a, U b, U c) { return a ^ b ^ c; });
  check<U, U, U, U>("lop3.b32 %o, %a, %b, %c, 0x40;", [](U a, U b, U c) { return a & b & ~c; });
  check<U, U, U>("prmt.b32 %o, %a, %b, 0x5410;",
                 [](U a, U b) { return (b & 0xffff) << 16 | (a & 0xffff); });
  check<U, U, U>("prmt.b32 %o, %a, %b, 0xc376;", [](U a, U b) {
    return ((b & 0x80) != 0 ? 0xff000000 : 0) | (a >> 24) << 16 | (b >> 24) << 8 | (b >> 16 & 0xff);
  });
  const std::string predicates = "setp.gt.s32 %q, %a, 5; setp.gt.s32 %t, %b, 5; ";
  using I = std::int32_t;
  check<bool, I, I>(predicates + "and.pred %q, %q, %t;", [](I a, I b) { return a > 5 && b > 5; });
  check<bool, I, I>(predicates + "or.pred %q, %q, %t;", [](I a, I b) { return a > 5 || b > 5; });
  check<bool, I, I>(predicates + "xor.pred %q, %q, %t;",
                    [](I a, I b) { return (a > 5) != (b > 5); });
  check<bool, I>("setp.gt.s32 %t, %a, 5; not.pred %q, %t;", [](I a) { return a <= 5; });
  check<bool, I>("setp.gt.s32 %t, %a, 5; mov.pred %q, %t;", [](I a) { return a > 5; });
  check<std::uint64_t, U, U>("mov.b64 %o, {%a, %b};", both);
  check<U, std::uint64_t>("mov.b64 {%a, %o}, %a;", [](std::uint64_t a) { return U(a >> 32); });
  check<U, U>("mov.b32 {%s1, %s2}, %a; mov.b32 %o, {%s2, %s1};",
              [](U a) { return a << 16 | a >> 16; });
  using L = std::uint64_t;
  check<L, L, L>(".reg .b128 %w; mov.b128 %w, {%a, %b}; mov.b128 {%c, %d}, %w; xor.b64 %o, %c, 1;",
                 [](L a, L) { return a ^ 1; });
}

// A value whose origin the compiler cannot see, so that it computes where it is told to.
template <class T>
T opaque(T value) {
  volatile T copy = value;
  return copy;
}

template <class T, class F>
T rounded(int direction, const F& f) {
  std::fesetround(direction);
  const volatile T result = f();
  std::fesetround(FE_TONEAREST);
  return result;
}

template <class T>
void check_float_arithmetic(const std::string& type) {
  const std::string two = "." + type + " %o, %a, %b;", three = "." + type + " %o, %a, %b, %c;";
  struct Mode {
    std::string name;
    int direction;
  };
  for (const auto& [mode, direction] : {Mode{".rn", FE_TONEAREST}, Mode{".rz", FE_TOWARDZERO},
                                        Mode{".rm", FE_DOWNWARD}, Mode{".rp", FE_UPWARD}}) {
    const int d = direction;
    check<T, T, T>("add" + mode + two,
                   [=](T a, T b) { return rounded<T>(d, [&] { return opaque(a) + opaque(b); }); });
    check<T, T, T>("sub" + mode + two,
                   [=](T a, T b) { return rounded<T>(d, [&] { return opaque(a) - opaque(b); }); });
    check<T, T, T>("mul" + mode + two,
                   [=](T a, T b) { return rounded<T>(d, [&] { return opaque(a) * opaque(b); }); });
    check<T, T, T>("div" + mode + two,
                   [=](T a, T b) { return rounded<T>(d, [&] { return opaque(a) / opaque(b); }); });
    check<T, T, T, T>("fma" + mode + three, [=](T a, T b, T c) {
      return rounded<T>(d, [&] { return std::fma(opaque(a), opaque(b), opaque(c)); });
    });
    check<T, T>("rcp" + mode + "." + type + " %o, %a;",
                [=](T a) { return rounded<T>(d, [&] { return T(1) / opaque(a); }); });
    check<T, T>("sqrt" + mode + "." + type + " %o, %a;",
                [=](T a) { return rounded<T>(d, [&] { return std::sqrt(opaque(a)); }); });
  }
  const auto lower = [](T a, T b) {
    if (std::isnan(a) || std::isnan(b)) return std::isnan(a) ? b : a;
    return a < b || (a == b && std::signbit(a)) ? a : b;
  };
  check<T, T, T>("min" + two, lower);
  check<T, T, T>("max" + two, [&](T a, T b) { return T(-lower(-a, -b)); });
  check<T, T>("neg." + type + " %o, %a;", [](T a) { return -a; });
  check<T, T>("abs." + type + " %o, %a;", [](T a) { return std::fabs(a); });
  check<T, T>("mov." + type + " %o, %a;", [](T a) { return a; });
  check<T, T>("rsqrt.approx." + type + " %o, %a;",
              [](T a) { return T(1 / std::sqrt(static_cast<double>(a))); });
  check<T, T, T>("copysign" + two, [](T a, T b) { return std::copysign(b, a); });
  const std::string test = "." + type + " %q, %a;";
  check<bool, T>("testp.finite" + test, [](T a) { return std::isfinite(a); });
  check<bool, T>("testp.infinite" + test, [](T a) { return std::isinf(a); });
  check<bool, T>("testp.number" + test, [](T a) { return !std::isnan(a); });
  check<bool, T>("testp.notanumber" + test, [](T a) { return std::isnan(a); });
  check<bool, T>("testp.normal" + test, [](T a) { return std::isnormal(a); });
  check<bool, T>("testp.subnormal" + test, [](T a) { return std::fpclassify(a) == FP_SUBNORMAL; });
}

void check_floats() {
  check_float_arithmetic<float>("f32");
  check_float_arithmetic<double>("f64");
  using F = float;
  check<F, F>("ex2.approx.ftz.f32 %o, %a;", [](F a) { return std::exp2(a); });
  check<F, F>("lg2.approx.f32 %o, %a;", [](F a) { return std::log2(a); });
  check<F, F>("sin.approx.f32 %o, %a;", [](F a) { return std::sin(a); });
  check<F, F>("cos.approx.f32 %o, %a;", [](F a) { return std::cos(a); });
  check<F, F>("tanh.approx.f32 %o, %a;", [](F a) { return std::tanh(a); });
  const auto either_nan = [](F a, F b) { return std::isnan(a) || std::isnan(b); };
  check<F, F, F>("min.NaN.f32 %o, %a, %b;", [&](F a, F b) {
    return either_nan(a, b) ? NAN : a < b || std::signbit(a) > std::signbit(b) ? a : b;
  });
  check<F, F, F>("max.NaN.f32 %o, %a, %b;", [&](F a, F b) {
    return either_nan(a, b) ? NAN : a > b || std::signbit(a) < std::signbit(b) ? a : b;
  });
  const auto clamped = [](F v) { return v > 0 ? std::min(v, 1.0f) : 0.0f; };
  check<F, F, F>("add.sat.f32 %o, %a, %b;", [&](F a, F b) { return clamped(a + b); });
  check<F, F, F, F>("fma.rn.ftz.sat.f32 %o, %a, %b, %c;",
                    [&](F a, F b, F c) { return clamped(std::fma(a, b, c)); });
}

template <class T>
void check_comparison(const std::string& name, const std::string& type,
                      const std::function<bool(T, T)>& holds) {
  const std::string end = "." + type + " %q, %a, %b";
  const std::string setp = "setp." + name;
  check<bool, T, T>(setp + end + ";", holds);
  check<bool, T, T, bool>(setp + ".and" + end + ", %t;",
                          [&](T a, T b, bool c) { return holds(a, b) && c; });
  check<bool, T, T, bool>(setp + ".or" + end + ", !%t;",
                          [&](T a, T b, bool c) { return holds(a, b) || !c; });
  check<bool, T, T, bool>(setp + ".xor" + end + ", %t;",
                          [&](T a, T b, bool c) { return holds(a, b) != c; });
  check<bool, T, T, bool>(setp + ".and." + type + " %p2|%q, %a, %b, %t;",
                          [&](T a, T b, bool c) { return !holds(a, b) && c; });
}

template <class T>
void check_integer_comparisons(const std::string& type) {
  check_comparison<T>("eq", type, [](T a, T b) { return a == b; });
  check_comparison<T>("ne", type, [](T a, T b) { return a != b; });
  if (type[0] == 'b') return;
  check_comparison<T>("lt", type, [](T a, T b) { return a < b; });
  check_comparison<T>("le", type, [](T a, T b) { return a <= b; });
  check_comparison<T>("gt", type, [](T a, T b) { return a > b; });
  check_comparison<T>("ge", type, [](T a, T b) { return a >= b; });
  if (type[0] == 's') return;
  check_comparison<T>("lo", type, [](T a, T b) { return a < b; });
  check_comparison<T>("ls", type, [](T a, T b) { return a <= b; });
  check_comparison<T>("hi", type, [](T a, T b) { return a > b; });
  check_comparison<T>("hs", type, [](T a, T b) { return a >= b; });
}

// Of T as V.
template <class T, class V>
void check_float_comparisons(const std::string& type, V (*value)(T)) {
  struct Relation {
    const char* name;
    bool less, equal, greater;
  };
  constexpr Relation kRelations[] = {{"eq", false, true, false}, {"ne", true, false, true},
                                     {"lt", true, false, false}, {"le", true, true, false},
                                     {"gt", false, false, true}, {"ge", false, true, true}};
  for (const auto& [name, less, equal, greater] : kRelations) {
    for (const bool unordered : {false, true}) {
      check_comparison<T>(name + std::string(unordered ? "u" : ""), type,
                          [&, u = unordered, l = less, e = equal, g = greater](T x, T y) {
                            const V a = value(x), b = value(y);
                            if (std::isnan(a) || std::isnan(b)) return u;
                            return (a < b && l) || (a == b && e) || (a > b && g);
                          });
    }
  }
  check_comparison<T>("num", type,
                      [&](T a, T b) { return !std::isnan(value(a)) && !std::isnan(value(b)); });
  check_comparison<T>("nan", type,
                      [&](T a, T b) { return std::isnan(value(a)) || std::isnan(value(b)); });
}

template <class T>
void check_selection(const std::string& type) {
  check<T, T, T, bool>("selp." + type + " %o, %a, %b, %t;",
                       [](T a, T b, bool c) { return c ? a : b; });
}

float bf16_value(std::uint16_t bits) {
  return std::bit_cast<float>(std::uint32_t{bits} << 16);
}
double f16_value(std::uint16_t bits) {
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  const double magnitude = exponent == 31  ? (fraction != 0 ? NAN : INFINITY)
                           : exponent == 0 ? std::ldexp(fraction, -24)
                                           : std::ldexp(fraction + 1024, exponent - 25);
  return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

void check_comparisons() {
  check_integer_comparisons<std::uint16_t>("b16");
  check_integer_comparisons<std::uint32_t>("b32");
  check_integer_comparisons<std::uint64_t>("b64");
  check_integer_comparisons<std::uint16_t>("u16");
  check_integer_comparisons<std::uint32_t>("u32");
  check_integer_comparisons<std::uint64_t>("u64");
  check_integer_comparisons<std::int16_t>("s16");
  check_integer_comparisons<std::int32_t>("s32");
  check_integer_comparisons<std::int64_t>("s64");
  check_float_comparisons<float, float>("f32", [](float a) { return a; });
  check_float_comparisons<double, double>("f64", [](double a) { return a; });
  check_float_comparisons<std::uint16_t, float>("bf16", bf16_value);
  check_float_comparisons<std::uint16_t, double>("f16", f16_value);
  check_selection<std::uint16_t>("b16");
  check_selection<std::int32_t>("s32");
  check_selection<float>("f32");
  check_selection<double>("f64");
}

TEST(PtxInstructions, Integers) {
  check_integers();
}
TEST(PtxInstructions, Bits) {
  check_bits();
}
TEST(PtxInstructions, Floats) {
  check_floats();
}
TEST(PtxInstructions, Comparisons) {
  check_comparisons();
}

TEST(PtxInstructions, EveryOneIsTested) {
  exercised().clear();
  check_integers();
  check_bits();
  check_floats();
  check_comparisons();
  const auto missing = forms_not_exercised([](const std::string& key) {
    static const std::set<std::string> kElsewhere = {"cvt", "cvta", "isspacep"};
    const bool half = key.find("f16") != std::string::npos && key.find("setp") != 0;
    return is_elementwise(key) && !half && !kElsewhere.contains(key.substr(0, key.find('.')));
  });
  EXPECT_EQ(missing, std::vector<std::string>{});
}

}  // namespace
}  // namespace lathe::test
