// Logic, shifts, fields of bits, and moves.
#include <algorithm>
#include <bit>

#include "instruction_table.h"
#include "warp.h"

namespace lathe::ptx {
namespace {

struct And {
  template <class T>
  T operator()(T a, T b) const {
    return static_cast<T>(a & b);
  }
};
struct Or {
  template <class T>
  T operator()(T a, T b) const {
    return static_cast<T>(a | b);
  }
};
struct Xor {
  template <class T>
  T operator()(T a, T b) const {
    return static_cast<T>(a ^ b);
  }
};
struct Not {
  template <class T>
  T operator()(T a) const {
    return static_cast<T>(~a);
  }
};
struct Move {
  template <class T>
  T operator()(T a) const {
    return a;
  }
};
struct NotPredicate {
  std::uint8_t operator()(std::uint8_t a) const { return (a & 1) ^ 1; }
};
struct CountNot {  // cnot: whether a is 0
  template <class T>
  T operator()(T a) const {
    return a == 0 ? 1 : 0;
  }
};
struct PopulationCount {
  template <class T>
  std::uint32_t operator()(T a) const {
    return static_cast<std::uint32_t>(std::popcount(a));
  }
};
struct LeadingZeros {
  template <class T>
  std::uint32_t operator()(T a) const {
    return static_cast<std::uint32_t>(std::countl_zero(a));
  }
};
struct Reverse {
  template <class T>
  T operator()(T a) const {
    T out = 0;
    for (std::size_t i = 0; i < 8 * sizeof(T); ++i)
      out = static_cast<T>(out | ((a >> i & 1) << (8 * sizeof(T) - 1 - i)));
    return out;
  }
};
struct FindHighest {  // bfind: the place of the highest bit that differs from the sign
  template <class T>
  std::uint32_t operator()(T a) const {
    using U = std::make_unsigned_t<T>;
    const U bits = static_cast<U>(std::is_signed_v<T> && a < 0 ? ~a : a);
    return static_cast<std::uint32_t>(static_cast<int>(8 * sizeof(T)) - 1 - std::countl_zero(bits));
  }
};
// How far to shift left until that bit is the highest of all.
struct FindShift {
  template <class T>
  std::uint32_t operator()(T a) const {
    const std::uint32_t highest = FindHighest()(a);
    return highest == ~0u ? ~0u : static_cast<std::uint32_t>(8 * sizeof(T) - 1) - highest;
  }
};

// The amount is of 32 bits whatever is shifted, and clamps.
template <class T>
void shift_left(Warp& warp, const Instruction& instruction, std::uint32_t lanes) {
  std::uint64_t* out = warp.lanes(instruction.destinations[0]);
  const std::uint64_t* a = warp.lanes(instruction.sources[0]);
  const std::uint64_t* b = warp.lanes(instruction.sources[1]);
  for_lanes(lanes, [&](int lane) {
    const auto amount = get<std::uint32_t>(b[lane]);
    out[lane] = amount >= 8 * sizeof(T) ? 0 : put(static_cast<T>(get<T>(a[lane]) << amount));
  });
}

template <class T>
void shift_right(Warp& warp, const Instruction& instruction, std::uint32_t lanes) {
  std::uint64_t* out = warp.lanes(instruction.destinations[0]);
  const std::uint64_t* a = warp.lanes(instruction.sources[0]);
  const std::uint64_t* b = warp.lanes(instruction.sources[1]);
  constexpr std::uint32_t kBits = 8 * sizeof(T);
  for_lanes(lanes, [&](int lane) {
    const auto amount = get<std::uint32_t>(b[lane]);
    const auto value = get<T>(a[lane]);
    const T beyond = static_cast<T>(value < T{0} ? -1 : 0);
    out[lane] = put(amount >= kBits ? beyond : static_cast<T>(value >> amount));
  });
}

// shf: shifts two registers as one of 64 bits; the high half of a left shift, the low of a right.
template <bool Left, bool Clamp>
struct FunnelShift {
  std::uint32_t operator()(std::uint32_t low, std::uint32_t high, std::uint32_t amount) const {
    amount = Clamp ? std::min(amount, 32u) : amount & 31;
    const std::uint64_t both = std::uint64_t{high} << 32 | low;
    return static_cast<std::uint32_t>(Left ? both << amount >> 32 : both >> amount);
  }
};

// Bits [position, position + length); above the value its sign, or 0, goes on.
template <class T>
struct ExtractField {
  T operator()(T a, T position_bits, T length_bits) const {
    constexpr int kBits = 8 * sizeof(T);
    const int position = static_cast<int>(position_bits & 0xff);
    const int length = static_cast<int>(length_bits & 0xff);
    const int sign_at = std::min(position + length - 1, kBits - 1);
    const bool sign = std::is_signed_v<T> && length > 0 && ((a >> sign_at) & 1) != 0;
    T out = 0;
    for (int i = 0; i < kBits; ++i) {
      const bool inside = i < length && position + i < kBits;
      const bool bit = inside ? ((a >> (position + i)) & 1) != 0 : sign;
      out = static_cast<T>(out | static_cast<T>(std::make_unsigned_t<T>{bit} << i));
    }
    return out;
  }
};

template <class T>
void insert_field(Warp& warp, const Instruction& instruction, std::uint32_t lanes) {
  std::uint64_t* out = warp.lanes(instruction.destinations[0]);
  const auto source = [&](std::size_t i) { return warp.lanes(instruction.sources[i]); };
  const std::uint64_t *a = source(0), *b = source(1), *c = source(2), *d = source(3);
  constexpr std::uint32_t kBits = 8 * sizeof(T);
  for_lanes(lanes, [&](int lane) {
    const auto position = static_cast<std::uint32_t>(c[lane] & 0xff);
    const auto length = static_cast<std::uint32_t>(d[lane] & 0xff);
    T mask = length >= kBits ? ~T{0} : static_cast<T>((T{1} << length) - 1);
    mask = position >= kBits ? T{0} : static_cast<T>(mask << position);
    const T value = position >= kBits ? T{0} : static_cast<T>(get<T>(a[lane]) << position);
    out[lane] = put(static_cast<T>((get<T>(b[lane]) & ~mask) | (value & mask)));
  });
}

// Each nibble of the selector picks a byte of two registers; its high bit spreads the byte's sign.
struct Permute {
  std::uint32_t operator()(std::uint32_t a, std::uint32_t b, std::uint32_t selector) const {
    const std::uint64_t bytes = std::uint64_t{b} << 32 | a;
    std::uint32_t out = 0;
    for (int i = 0; i < 4; ++i) {
      const std::uint32_t pick = selector >> (4 * i) & 0xf;
      auto byte = static_cast<std::uint32_t>(bytes >> (8 * (pick & 7)) & 0xff);
      if ((pick & 8) != 0) byte = (byte & 0x80) != 0 ? 0xff : 0;
      out |= byte << (8 * i);
    }
    return out;
  }
};

// Bit 4a+2b+c of the immediate is the result for bits a, b, c.
void logic_of_three(Warp& warp, const Instruction& instruction, std::uint32_t lanes) {
  std::uint64_t* out = warp.lanes(instruction.destinations[0]);
  const std::uint64_t* a = warp.lanes(instruction.sources[0]);
  const std::uint64_t* b = warp.lanes(instruction.sources[1]);
  const std::uint64_t* c = warp.lanes(instruction.sources[2]);
  for_lanes(lanes, [&](int lane) {
    std::uint32_t result = 0;
    for (int row = 0; row < 8; ++row) {
      if ((instruction.immediate >> row & 1) == 0) continue;
      const auto x = static_cast<std::uint32_t>((row & 4) != 0 ? a[lane] : ~a[lane]);
      const auto y = static_cast<std::uint32_t>((row & 2) != 0 ? b[lane] : ~b[lane]);
      const auto z = static_cast<std::uint32_t>((row & 1) != 0 ? c[lane] : ~c[lane]);
      result |= x & y & z;
    }
    out[lane] = result;
  });
}

// mov.b64 %rd, {%r, %r}: the first is lowest.
template <int Bits>
void pack(Warp& warp, const Instruction& instruction, std::uint32_t lanes) {
  const std::size_t parts = instruction.sources.size();
  const std::size_t width = Bits / parts;
  for_lanes(lanes, [&](int lane) {
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < parts; ++i) {
      const std::uint64_t part = warp.lanes(instruction.sources[i])[lane];
      value |= (part & ((std::uint64_t{1} << width) - 1)) << (i * width);
    }
    warp.lanes(instruction.destinations[0])[lane] = value;
  });
}

template <int Bits>
void unpack(Warp& warp, const Instruction& instruction, std::uint32_t lanes) {
  const std::size_t parts = instruction.destinations.size();
  const std::size_t width = Bits / parts;
  for_lanes(lanes, [&](int lane) {
    const std::uint64_t value = warp.lanes(instruction.sources[0])[lane];
    for (std::size_t i = 0; i < parts; ++i) {
      warp.lanes(instruction.destinations[i])[lane] =
          value >> (i * width) & ((std::uint64_t{1} << width) - 1);
    }
  });
}

// A register of 128 bits is a pair of registers.
void move_pair(Warp& warp, const Instruction& instruction, std::uint32_t lanes) {
  for_lanes(lanes, [&](int lane) {
    const std::uint64_t low = warp.lanes(instruction.sources[0])[lane];
    const std::uint64_t high = warp.lanes(instruction.sources[1])[lane];
    warp.lanes(instruction.destinations[0])[lane] = low;
    warp.lanes(instruction.destinations[1])[lane] = high;
  });
}

template <class T>
void add_bits(FormTable& table, const std::string& type) {
  table["and." + type] = {"dss", binary<T, And>};
  table["or." + type] = {"dss", binary<T, Or>};
  table["xor." + type] = {"dss", binary<T, Xor>};
  table["not." + type] = {"ds", unary<T, Not>};
  table["cnot." + type] = {"ds", unary<T, CountNot>};
  table["shl." + type] = {"dss", shift_left<T>};
  table["shr." + type] = {"dss", shift_right<T>};
}

template <class T>
void add_wide_bits(FormTable& table, const std::string& type) {
  table["popc." + type] = {"ds", unary<T, PopulationCount>};
  table["clz." + type] = {"ds", unary<T, LeadingZeros>};
  table["brev." + type] = {"ds", unary<T, Reverse>};
  table["bfi." + type] = {"dssss", insert_field<T>};
}

template <class T>
void add_fields(FormTable& table, const std::string& type) {
  table["bfe." + type] = {"dsss", ternary<T, ExtractField<T>>};
  table["bfind." + type] = {"ds", unary<T, FindHighest>};
  table["bfind.shiftamt." + type] = {"ds", unary<T, FindShift>};
}

template <class T>
void add_moves(FormTable& table, std::initializer_list<const char*> types) {
  for (const std::string type : types) {
    table["mov." + type] = {"ds", unary<T, Move>};
  }
}

}  // namespace

void add_bit_instructions(FormTable& table) {
  add_bits<std::uint16_t>(table, "b16");
  add_bits<std::uint32_t>(table, "b32");
  add_bits<std::uint64_t>(table, "b64");
  add_wide_bits<std::uint32_t>(table, "b32");
  add_wide_bits<std::uint64_t>(table, "b64");
  add_fields<std::int32_t>(table, "s32");
  add_fields<std::uint32_t>(table, "u32");
  add_fields<std::int64_t>(table, "s64");
  add_fields<std::uint64_t>(table, "u64");
  table["shr.s16"] = {"dss", shift_right<std::int16_t>};
  table["shr.u16"] = {"dss", shift_right<std::uint16_t>};
  table["shr.s32"] = {"dss", shift_right<std::int32_t>};
  table["shr.u32"] = {"dss", shift_right<std::uint32_t>};
  table["shr.s64"] = {"dss", shift_right<std::int64_t>};
  table["shr.u64"] = {"dss", shift_right<std::uint64_t>};
  table["and.pred"] = {"dss", binary<std::uint8_t, And>};
  table["or.pred"] = {"dss", binary<std::uint8_t, Or>};
  table["xor.pred"] = {"dss", binary<std::uint8_t, Xor>};
  table["not.pred"] = {"ds", unary<std::uint8_t, NotPredicate>};
  table["shf.l.wrap.b32"] = {"dsss", ternary<std::uint32_t, FunnelShift<true, false>>};
  table["shf.l.clamp.b32"] = {"dsss", ternary<std::uint32_t, FunnelShift<true, true>>};
  table["shf.r.wrap.b32"] = {"dsss", ternary<std::uint32_t, FunnelShift<false, false>>};
  table["shf.r.clamp.b32"] = {"dsss", ternary<std::uint32_t, FunnelShift<false, true>>};
  table["prmt.b32"] = {"dsss", ternary<std::uint32_t, Permute>};
  table["lop3.b32"] = {"dsssi", logic_of_three};
  add_moves<std::uint8_t>(table, {"pred"});
  add_moves<std::uint16_t>(table, {"b16", "u16", "s16", "f16", "bf16"});
  add_moves<std::uint32_t>(table, {"b32", "u32", "s32", "f32", "f16x2", "bf16x2"});
  add_moves<std::uint64_t>(table, {"b64", "u64", "s64", "f64"});
  table["pack.b32"] = {"ds+", pack<32>};
  table["pack.b64"] = {"ds+", pack<64>};
  table["unpack.b32"] = {"d+s", unpack<32>};
  table["unpack.b64"] = {"d+s", unpack<64>};
  table["pack.b128"] = table["unpack.b128"] = {"d2s2", move_pair};
}

}  // namespace lathe::ptx
