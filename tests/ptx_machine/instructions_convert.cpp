// cvt. The table has every pair of types with every rounding that PTX allows for it.
#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "half.h"
#include "instruction_table.h"
#include "rounding.h"
#include "warp.h"

namespace lathe::ptx {
namespace {

// A signed result fills a register that is wider than its type with its sign.
template <class T>
std::uint64_t put_extended(T value) {
  if constexpr (std::is_integral_v<T> && std::is_signed_v<T>) {
    return put(static_cast<std::int64_t>(value));
  } else {
    return put(value);
  }
}

template <class From, class Convert>
void convert(Warp& warp, const Instruction& instruction, std::uint32_t lanes) {
  std::uint64_t* out = warp.lanes(instruction.destinations[0]);
  const std::uint64_t* a = warp.lanes(instruction.sources[0]);
  for_lanes(lanes, [&](int lane) { out[lane] = put_extended(Convert{}(get<From>(a[lane]))); });
}

template <class To>
struct Cast {
  template <class From>
  To operator()(From value) const {
    return static_cast<To>(value);
  }
};

template <class To>
struct Clamp {
  template <class From>
  To operator()(From value) const {
    if (std::cmp_less(value, std::numeric_limits<To>::min())) return std::numeric_limits<To>::min();
    if (std::cmp_greater(value, std::numeric_limits<To>::max()))
      return std::numeric_limits<To>::max();
    return static_cast<To>(value);
  }
};

// Rounding to an integer.
struct ToNearest {
  template <class T>
  T operator()(T value) const {
    return std::nearbyint(value);
  }
};
struct ToZero {
  template <class T>
  T operator()(T value) const {
    return std::trunc(value);
  }
};
struct Down {
  template <class T>
  T operator()(T value) const {
    return std::floor(value);
  }
};
struct Up {
  template <class T>
  T operator()(T value) const {
    return std::ceil(value);
  }
};

// What does not fit becomes the nearest that does. For NaN see "cvt" in the PTX ISA: 0, but the
// highest bit alone when 64 bits are involved.
template <class To, class Round>
struct ToInteger {
  template <class From>
  To operator()(From value) const {
    using Limits = std::numeric_limits<To>;
    constexpr bool kWide = sizeof(From) == 8 || sizeof(To) == 8;
    if (std::isnan(value)) {
      return kWide ? static_cast<To>(std::uint64_t{1} << (8 * sizeof(To) - 1)) : To{0};
    }
    const From rounded = Round{}(value);
    // The maximum itself may be no float: what lies above it is a power of two.
    const From above = std::ldexp(From{1}, Limits::digits);
    if (rounded >= above) return Limits::max();
    if (rounded < static_cast<From>(Limits::min())) return Limits::min();
    return static_cast<To>(rounded);
  }
};

// To a float that cannot hold every value of the source, rounded in a direction.
template <class To, class From, int Direction>
void convert_directed(Warp& warp, const Instruction& instruction, std::uint32_t lanes) {
  std::uint64_t* out = warp.lanes(instruction.destinations[0]);
  const std::uint64_t* a = warp.lanes(instruction.sources[0]);
  const RoundingDirection direction(Direction);
  for_lanes(lanes, [&](int lane) {
    out[lane] = put(opaque(static_cast<To>(opaque(get<From>(a[lane])))));
  });
}

struct Relu {
  template <class T>
  T operator()(T value) const {
    return value < 0 ? T{0} : value;
  }
};
struct Same {
  template <class T>
  T operator()(T value) const {
    return value;
  }
};

// `round` and `first` as in to_half; Relu comes first.
template <class Format, double (*Round)(double), class First>
struct ToHalf {
  template <class From>
  std::uint16_t operator()(From value) const {
    return to_half<Format>(First{}(static_cast<double>(value)), Round);
  }
};
// The usual case without a detour: to nearest even on the bits (NaN apart).
struct FloatToBf16 {
  std::uint16_t operator()(float value) const {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return kCanonicalNan;
    return static_cast<std::uint16_t>((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
  }
};

template <class Format, class To>
struct FromHalf {
  To operator()(std::uint16_t bits) const { return static_cast<To>(from_half<Format>(bits)); }
};
template <class Format, class To, class Round>
struct HalfToInteger {
  To operator()(std::uint16_t bits) const {
    return ToInteger<To, Round>{}(static_cast<float>(from_half<Format>(bits)));
  }
};

// The first source goes to the upper half.
template <class Convert>
struct ToTwoHalves {
  std::uint32_t operator()(float upper, float lower) const {
    return std::uint32_t{Convert{}(upper)} << 16 | Convert{}(lower);
  }
};

// tf32 has 10 bits of fraction; ties go away from zero (.rna) or to even.
template <bool TiesAway>
struct ToTf32 {
  std::uint32_t operator()(float value) const {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    if ((bits & 0x7f800000u) == 0x7f800000u) return bits;
    const std::uint32_t tie = TiesAway ? 0x1000u : 0xfffu + (bits >> 13 & 1);
    return (bits + tie) & ~0x1fffu;
  }
};

template <class To, class From>
void add_integers(FormTable& table, const std::string& to, const std::string& from) {
  table["cvt." + to + "." + from] = {"ds", convert<From, Cast<To>>};
  table["cvt.sat." + to + "." + from] = {"ds", convert<From, Clamp<To>>};
}

template <class To, class From>
void add_to_float(FormTable& table, const std::string& to, const std::string& from) {
  const std::string pair = to + "." + from;
  table["cvt." + pair] = {"ds", convert<From, Cast<To>>};
  table["cvt.rz." + pair] = {"ds", convert_directed<To, From, FE_TOWARDZERO>};
  table["cvt.rm." + pair] = {"ds", convert_directed<To, From, FE_DOWNWARD>};
  table["cvt.rp." + pair] = {"ds", convert_directed<To, From, FE_UPWARD>};
}

template <class To, class From>
void add_to_integer(FormTable& table, const std::string& to, const std::string& from) {
  const std::string pair = to + "." + from;
  table["cvt.rni." + pair] = {"ds", convert<From, ToInteger<To, ToNearest>>};
  table["cvt.rzi." + pair] = {"ds", convert<From, ToInteger<To, ToZero>>};
  table["cvt.rmi." + pair] = {"ds", convert<From, ToInteger<To, Down>>};
  table["cvt.rpi." + pair] = {"ds", convert<From, ToInteger<To, Up>>};
}

template <class T>
void add_to_integral_float(FormTable& table, const std::string& type) {
  const std::string pair = type + "." + type;
  table["cvt." + pair] = {"ds", convert<T, Cast<T>>};
  table["cvt.rni." + pair] = {"ds", convert<T, ToNearest>};
  table["cvt.rzi." + pair] = {"ds", convert<T, ToZero>};
  table["cvt.rmi." + pair] = {"ds", convert<T, Down>};
  table["cvt.rpi." + pair] = {"ds", convert<T, Up>};
}

template <class Format, class T>
void add_half_and_integer(FormTable& table, const std::string& half, const std::string& type) {
  if constexpr (sizeof(T) < 8) {  // exact in double
    table["cvt." + half + "." + type] = {"ds", convert<T, ToHalf<Format, std::nearbyint, Same>>};
  }
  const std::string pair = type + "." + half;
  table["cvt.rni." + pair] = {"ds", convert<std::uint16_t, HalfToInteger<Format, T, ToNearest>>};
  table["cvt.rzi." + pair] = {"ds", convert<std::uint16_t, HalfToInteger<Format, T, ToZero>>};
  table["cvt.rmi." + pair] = {"ds", convert<std::uint16_t, HalfToInteger<Format, T, Down>>};
  table["cvt.rpi." + pair] = {"ds", convert<std::uint16_t, HalfToInteger<Format, T, Up>>};
}

// Conversions from and to an integer type T.
template <class T>
void add_integer_type(FormTable& table, const std::string& type) {
  add_integers<std::int8_t, T>(table, "s8", type);
  add_integers<std::uint8_t, T>(table, "u8", type);
  add_integers<std::int16_t, T>(table, "s16", type);
  add_integers<std::uint16_t, T>(table, "u16", type);
  add_integers<std::int32_t, T>(table, "s32", type);
  add_integers<std::uint32_t, T>(table, "u32", type);
  add_integers<std::int64_t, T>(table, "s64", type);
  add_integers<std::uint64_t, T>(table, "u64", type);
  add_to_float<float, T>(table, "f32", type);
  add_to_float<double, T>(table, "f64", type);
  add_to_integer<T, float>(table, type, "f32");
  add_to_integer<T, double>(table, type, "f64");
  add_half_and_integer<Bf16Format, T>(table, "bf16", type);
  add_half_and_integer<F16Format, T>(table, "f16", type);
}

template <class Format, class Nearest>
void add_half_type(FormTable& table, const std::string& half) {
  using Truncated = ToHalf<Format, std::trunc, Same>;
  using Rectified = ToHalf<Format, std::nearbyint, Relu>;
  table["cvt." + half + ".f32"] = {"ds", convert<float, Nearest>};
  table["cvt.rz." + half + ".f32"] = {"ds", convert<float, Truncated>};
  table["cvt.relu." + half + ".f32"] = {"ds", convert<float, Rectified>};
  table["cvt." + half + "x2.f32"] = {"dss", binary<float, ToTwoHalves<Nearest>>};
  table["cvt.rz." + half + "x2.f32"] = {"dss", binary<float, ToTwoHalves<Truncated>>};
  table["cvt.relu." + half + "x2.f32"] = {"dss", binary<float, ToTwoHalves<Rectified>>};
  table["cvt." + half + ".f64"] = {"ds", convert<double, ToHalf<Format, std::nearbyint, Same>>};
  table["cvt.f32." + half] = {"ds", convert<std::uint16_t, FromHalf<Format, float>>};
  table["cvt.f64." + half] = {"ds", convert<std::uint16_t, FromHalf<Format, double>>};
}

}  // namespace

void add_conversion_instructions(FormTable& table) {
  add_integer_type<std::int8_t>(table, "s8");
  add_integer_type<std::uint8_t>(table, "u8");
  add_integer_type<std::int16_t>(table, "s16");
  add_integer_type<std::uint16_t>(table, "u16");
  add_integer_type<std::int32_t>(table, "s32");
  add_integer_type<std::uint32_t>(table, "u32");
  add_integer_type<std::int64_t>(table, "s64");
  add_integer_type<std::uint64_t>(table, "u64");
  add_to_integral_float<float>(table, "f32");
  add_to_integral_float<double>(table, "f64");
  add_to_float<float, double>(table, "f32", "f64");
  table["cvt.f64.f32"] = {"ds", convert<float, Cast<double>>};
  add_half_type<Bf16Format, FloatToBf16>(table, "bf16");
  add_half_type<F16Format, ToHalf<F16Format, std::nearbyint, Same>>(table, "f16");
  table["cvt.rna.tf32.f32"] = {"ds", convert<float, ToTf32<true>>};
  table["cvt.tf32.f32"] = {"ds", convert<float, ToTf32<false>>};
}

}  // namespace lathe::ptx
