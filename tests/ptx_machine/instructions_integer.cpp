// Integer arithmetic. It wraps, as on the device.
#include <algorithm>
#include <limits>

#include "instruction_table.h"
#include "warp.h"

namespace lathe::ptx {
namespace {

template <class T>
using Unsigned = std::make_unsigned_t<T>;

// Not of the standard, but of every compiler that nvcc works with.
__extension__ using Int128 = __int128;
__extension__ using Uint128 = unsigned __int128;

// A type of twice the bits.
template <class T>
struct Wider;
template <>
struct Wider<std::int16_t> : std::type_identity<std::int32_t> {};
template <>
struct Wider<std::uint16_t> : std::type_identity<std::uint32_t> {};
template <>
struct Wider<std::int32_t> : std::type_identity<std::int64_t> {};
template <>
struct Wider<std::uint32_t> : std::type_identity<std::uint64_t> {};
template <>
struct Wider<std::int64_t> : std::type_identity<Int128> {};
template <>
struct Wider<std::uint64_t> : std::type_identity<Uint128> {};
template <class T>
using Wide = typename Wider<T>::type;

struct Add {
  template <class T>
  T operator()(T a, T b) const {
    return static_cast<T>(static_cast<Unsigned<T>>(a) + static_cast<Unsigned<T>>(b));
  }
};
struct Subtract {
  template <class T>
  T operator()(T a, T b) const {
    return static_cast<T>(static_cast<Unsigned<T>>(a) - static_cast<Unsigned<T>>(b));
  }
};
template <class T>
T saturated(std::int64_t value) {
  return static_cast<T>(std::clamp<std::int64_t>(value, std::numeric_limits<T>::min(),
                                                 std::numeric_limits<T>::max()));
}
struct AddSaturated {
  std::int32_t operator()(std::int32_t a, std::int32_t b) const {
    return saturated<std::int32_t>(std::int64_t{a} + b);
  }
};
struct SubtractSaturated {
  std::int32_t operator()(std::int32_t a, std::int32_t b) const {
    return saturated<std::int32_t>(std::int64_t{a} - b);
  }
};
struct MultiplyWide {
  template <class T>
  auto operator()(T a, T b) const {
    return static_cast<Wide<T>>(static_cast<Wide<T>>(a) * static_cast<Wide<T>>(b));
  }
};
struct MultiplyLow {
  template <class T>
  T operator()(T a, T b) const {
    return static_cast<T>(std::uint64_t{static_cast<Unsigned<T>>(a)} *
                          std::uint64_t{static_cast<Unsigned<T>>(b)});
  }
};
struct MultiplyHigh {
  template <class T>
  T operator()(T a, T b) const {
    return static_cast<T>(MultiplyWide{}(a, b) >> (8 * sizeof(T)));
  }
};
template <class Multiply>
struct MultiplyAdd {
  template <class T>
  T operator()(T a, T b, T c) const {
    return Add{}(Multiply{}(a, b), c);
  }
};
struct Min {
  template <class T>
  T operator()(T a, T b) const {
    return std::min(a, b);
  }
};
struct Max {
  template <class T>
  T operator()(T a, T b) const {
    return std::max(a, b);
  }
};
struct Negate {
  template <class T>
  T operator()(T a) const {
    return Subtract{}(T{0}, a);
  }
};
struct Absolute {
  template <class T>
  T operator()(T a) const {
    return a < 0 ? Negate{}(a) : a;
  }
};
struct Divide {
  template <class T>
  T operator()(T a, T b) const {
    if (std::is_signed_v<T> && b == static_cast<T>(-1)) return Negate{}(a);  // a host would trap
    return static_cast<T>(a / b);
  }
};
struct Remainder {
  template <class T>
  T operator()(T a, T b) const {
    if (std::is_signed_v<T> && b == static_cast<T>(-1)) return 0;
    return static_cast<T>(a % b);
  }
};
struct SumOfDifference {  // c + |a - b|
  template <class T>
  T operator()(T a, T b, T c) const {
    return Add{}(c, Subtract{}(std::max(a, b), std::min(a, b)));
  }
};

// Division by zero has no defined result, so it is a defect.
template <class T, class Operation>
void divide(Warp& warp, const Instruction& instruction, std::uint32_t lanes) {
  const std::uint64_t* divisors = warp.lanes(instruction.sources[1]);
  for_lanes(lanes, [&](int lane) {
    if (get<T>(divisors[lane]) == 0) fail(warp, lane, "integer division by zero");
  });
  binary<T, Operation>(warp, instruction, lanes);
}

// The addend has twice the bits of the factors.
template <class T>
void multiply_add_wide(Warp& warp, const Instruction& instruction, std::uint32_t lanes) {
  std::uint64_t* out = warp.lanes(instruction.destinations[0]);
  const std::uint64_t* a = warp.lanes(instruction.sources[0]);
  const std::uint64_t* b = warp.lanes(instruction.sources[1]);
  const std::uint64_t* c = warp.lanes(instruction.sources[2]);
  for_lanes(lanes, [&](int lane) {
    out[lane] = put(Add{}(MultiplyWide{}(get<T>(a[lane]), get<T>(b[lane])), get<Wide<T>>(c[lane])));
  });
}

template <class T>
void add_type(FormTable& table, const std::string& type) {
  table["add." + type] = {"dss", binary<T, Add>};
  table["sub." + type] = {"dss", binary<T, Subtract>};
  table["mul.lo." + type] = {"dss", binary<T, MultiplyLow>};
  table["mul.hi." + type] = {"dss", binary<T, MultiplyHigh>};
  table["mad.lo." + type] = {"dsss", ternary<T, MultiplyAdd<MultiplyLow>>};
  table["mad.hi." + type] = {"dsss", ternary<T, MultiplyAdd<MultiplyHigh>>};
  if constexpr (sizeof(T) < 8) {
    table["mul.wide." + type] = {"dss", binary<T, MultiplyWide>};
    table["mad.wide." + type] = {"dsss", multiply_add_wide<T>};
  }
  table["div." + type] = {"dss", divide<T, Divide>};
  table["rem." + type] = {"dss", divide<T, Remainder>};
  table["min." + type] = {"dss", binary<T, Min>};
  table["max." + type] = {"dss", binary<T, Max>};
  table["sad." + type] = {"dsss", ternary<T, SumOfDifference>};
  if constexpr (std::is_signed_v<T>) {
    table["neg." + type] = {"ds", unary<T, Negate>};
    table["abs." + type] = {"ds", unary<T, Absolute>};
  }
}

}  // namespace

void add_integer_instructions(FormTable& table) {
  add_type<std::int16_t>(table, "s16");
  add_type<std::uint16_t>(table, "u16");
  add_type<std::int32_t>(table, "s32");
  add_type<std::uint32_t>(table, "u32");
  add_type<std::int64_t>(table, "s64");
  add_type<std::uint64_t>(table, "u64");
  table["add.sat.s32"] = {"dss", binary<std::int32_t, AddSaturated>};
  table["sub.sat.s32"] = {"dss", binary<std::int32_t, SubtractSaturated>};
}

}  // namespace lathe::ptx
