// setp and selp. A comparison may be combined with a predicate, and give its opposite as well.
#include <cmath>
#include <functional>

#include "half.h"
#include "instruction_table.h"
#include "warp.h"

namespace lathe::ptx {
namespace {

enum class Combine { none, with_and, with_or, with_xor };

bool combine(Combine how, bool a, bool b) {
  switch (how) {
    case Combine::none:
      return a;
    case Combine::with_and:
      return a && b;
    case Combine::with_or:
      return a || b;
    case Combine::with_xor:
      return a != b;
  }
  return a;
}

// Half types compare as the doubles that they are.
template <class Format>
struct Half {
  std::uint16_t bits;
};
template <class T>
T value_of(T value) {
  return value;
}
template <class Format>
double value_of(Half<Format> half) {
  return from_half<Format>(half.bits);
}

template <class T, class Compare, Combine How>
void compare(Warp& warp, const Instruction& instruction, std::uint32_t lanes) {
  const std::uint64_t* a = warp.lanes(instruction.sources[0]);
  const std::uint64_t* b = warp.lanes(instruction.sources[1]);
  const std::uint64_t* with = How == Combine::none ? nullptr : warp.lanes(instruction.sources[2]);
  std::uint64_t* out = warp.lanes(instruction.destinations[0]);
  std::uint64_t* opposite =
      instruction.destinations.size() > 1 ? warp.lanes(instruction.destinations[1]) : nullptr;
  for_lanes(lanes, [&](int lane) {
    const bool holds = Compare{}(value_of(get<T>(a[lane])), value_of(get<T>(b[lane])));
    bool other = false;
    if constexpr (How != Combine::none)
      other = ((with[lane] & 1) != 0) != instruction.source_negated;
    // The destinations may be the predicate that is combined with: read before written.
    out[lane] = combine(How, holds, other);
    if (opposite != nullptr) opposite[lane] = combine(How, !holds, other);
  });
}

// On NaN the comparisons of C++ are false, but for !=; PTX has both kinds of each.
template <class Compare>
struct OrUnordered {
  template <class T>
  bool operator()(T a, T b) const {
    return std::isnan(a) || std::isnan(b) || Compare{}(a, b);
  }
};
struct OrderedNotEqual {
  template <class T>
  bool operator()(T a, T b) const {
    return a < b || a > b;
  }
};
struct BothNumbers {
  template <class T>
  bool operator()(T a, T b) const {
    return !std::isnan(a) && !std::isnan(b);
  }
};
struct AnyNan {
  template <class T>
  bool operator()(T a, T b) const {
    return std::isnan(a) || std::isnan(b);
  }
};

template <class T, class Compare>
void add_comparison(FormTable& table, const std::string& name, const std::string& type) {
  const std::string begin = "setp." + name;
  table[begin + "." + type] = {"Dss", compare<T, Compare, Combine::none>};
  table[begin + ".and." + type] = {"Dssp", compare<T, Compare, Combine::with_and>};
  table[begin + ".or." + type] = {"Dssp", compare<T, Compare, Combine::with_or>};
  table[begin + ".xor." + type] = {"Dssp", compare<T, Compare, Combine::with_xor>};
}

template <class T>
void add_integer(FormTable& table, const std::string& type) {
  add_comparison<T, std::equal_to<>>(table, "eq", type);
  add_comparison<T, std::not_equal_to<>>(table, "ne", type);
  if (type.front() == 'b') return;  // has no order
  add_comparison<T, std::less<>>(table, "lt", type);
  add_comparison<T, std::less_equal<>>(table, "le", type);
  add_comparison<T, std::greater<>>(table, "gt", type);
  add_comparison<T, std::greater_equal<>>(table, "ge", type);
  if (type.front() == 's') return;
  add_comparison<T, std::less<>>(table, "lo", type);
  add_comparison<T, std::less_equal<>>(table, "ls", type);
  add_comparison<T, std::greater<>>(table, "hi", type);
  add_comparison<T, std::greater_equal<>>(table, "hs", type);
}

template <class T>
void add_float(FormTable& table, const std::string& type) {
  add_comparison<T, std::equal_to<>>(table, "eq", type);
  add_comparison<T, OrderedNotEqual>(table, "ne", type);
  add_comparison<T, std::less<>>(table, "lt", type);
  add_comparison<T, std::less_equal<>>(table, "le", type);
  add_comparison<T, std::greater<>>(table, "gt", type);
  add_comparison<T, std::greater_equal<>>(table, "ge", type);
  add_comparison<T, OrUnordered<std::equal_to<>>>(table, "equ", type);
  add_comparison<T, std::not_equal_to<>>(table, "neu", type);
  add_comparison<T, OrUnordered<std::less<>>>(table, "ltu", type);
  add_comparison<T, OrUnordered<std::less_equal<>>>(table, "leu", type);
  add_comparison<T, OrUnordered<std::greater<>>>(table, "gtu", type);
  add_comparison<T, OrUnordered<std::greater_equal<>>>(table, "geu", type);
  add_comparison<T, BothNumbers>(table, "num", type);
  add_comparison<T, AnyNan>(table, "nan", type);
}

template <class T>
void select(Warp& warp, const Instruction& instruction, std::uint32_t lanes) {
  std::uint64_t* out = warp.lanes(instruction.destinations[0]);
  const std::uint64_t* a = warp.lanes(instruction.sources[0]);
  const std::uint64_t* b = warp.lanes(instruction.sources[1]);
  const std::uint64_t* predicate = warp.lanes(instruction.sources[2]);
  for_lanes(lanes, [&](int lane) {
    out[lane] = put(get<T>((predicate[lane] & 1) != 0 ? a[lane] : b[lane]));
  });
}

template <class T>
void add_selections(FormTable& table, std::initializer_list<const char*> types) {
  for (const std::string type : types) {
    table["selp." + type] = {"dsss", select<T>};
  }
}

}  // namespace

void add_comparison_instructions(FormTable& table) {
  add_integer<std::uint16_t>(table, "b16");
  add_integer<std::uint32_t>(table, "b32");
  add_integer<std::uint64_t>(table, "b64");
  add_integer<std::uint16_t>(table, "u16");
  add_integer<std::uint32_t>(table, "u32");
  add_integer<std::uint64_t>(table, "u64");
  add_integer<std::int16_t>(table, "s16");
  add_integer<std::int32_t>(table, "s32");
  add_integer<std::int64_t>(table, "s64");
  add_float<float>(table, "f32");
  add_float<double>(table, "f64");
  add_float<Half<Bf16Format>>(table, "bf16");
  add_float<Half<F16Format>>(table, "f16");
  add_selections<std::uint16_t>(table, {"b16", "u16", "s16"});
  add_selections<std::uint32_t>(table, {"b32", "u32", "s32", "f32"});
  add_selections<std::uint64_t>(table, {"b64", "u64", "s64", "f64"});
}

}  // namespace lathe::ptx
