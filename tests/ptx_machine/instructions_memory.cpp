// Loads, stores, and conversions of addresses.
#include "instruction_table.h"
#include "warp.h"

namespace lathe::ptx {
namespace {

std::uint64_t address_of(Warp& warp, const Instruction& instruction, int lane) {
  return warp.lanes(instruction.sources[0])[lane] +
         static_cast<std::uint64_t>(instruction.offsets[0]);
}

// A signed value fills a register that is wider with its sign.
template <class T>
void load(Warp& warp, const Instruction& instruction, std::uint32_t lanes) {
  const std::size_t count = instruction.destinations.size();
  for_lanes(lanes, [&](int lane) {
    const std::uint8_t* from =
        access(warp, lane, instruction.space, address_of(warp, instruction, lane),
               static_cast<int>(sizeof(T) * count), Use::read, instruction.strong);
    for (std::size_t i = 0; i < count; ++i) {
      T value;
      std::memcpy(&value, from + i * sizeof(T), sizeof(T));
      std::uint64_t& to = warp.lanes(instruction.destinations[i])[lane];
      if constexpr (std::is_integral_v<T> && std::is_signed_v<T>) {
        to = put(static_cast<std::int64_t>(value));
      } else {
        to = put(value);
      }
    }
  });
}

// The values follow the address among the sources.
template <class T>
void store(Warp& warp, const Instruction& instruction, std::uint32_t lanes) {
  const std::size_t count = instruction.sources.size() - 1;
  for_lanes(lanes, [&](int lane) {
    std::uint8_t* to = access(warp, lane, instruction.space, address_of(warp, instruction, lane),
                              static_cast<int>(sizeof(T) * count), Use::write, instruction.strong);
    for (std::size_t i = 0; i < count; ++i) {
      std::memcpy(to + i * sizeof(T), &warp.lanes(instruction.sources[i + 1])[lane], sizeof(T));
    }
  });
}

template <class T>
void add_type(FormTable& table, std::initializer_list<const char*> types) {
  for (const std::string type : types) {
    table["ld." + type] = {"d*a", load<T>};
    table["st." + type] = {"as*", store<T>};
  }
}

struct Same {
  std::uint64_t operator()(std::uint64_t address) const { return address; }
};
template <std::uint64_t Window>
struct IntoWindow {
  std::uint64_t operator()(std::uint64_t address) const { return address + Window; }
};

constexpr std::uint64_t kWindowBits = std::uint64_t{0xff} << 56;

bool is_global(std::uint64_t address) {
  const std::uint64_t window = address & kWindowBits;
  return window != kSharedWindow && window != kLocalWindow && window != kParamWindow;
}

// A pointer that is taken for another kind of memory than it is of. A null pointer may be.
template <std::uint64_t Window>
void out_of_window(Warp& warp, const Instruction& instruction, std::uint32_t lanes) {
  std::uint64_t* out = warp.lanes(instruction.destinations[0]);
  const std::uint64_t* a = warp.lanes(instruction.sources[0]);
  for_lanes(lanes, [&](int lane) {
    const bool inside = Window == 0 ? is_global(a[lane]) : (a[lane] & kWindowBits) == Window;
    if (!inside && a[lane] != 0) fail(warp, lane, "a pointer to another kind of memory");
    out[lane] = a[lane] - Window;
  });
}

template <std::uint64_t Window>
struct IsInWindow {
  bool operator()(std::uint64_t address) const {
    return Window == 0 ? is_global(address) : (address & kWindowBits) == Window;
  }
};

template <std::uint64_t Window>
void add_space(FormTable& table, const std::string& space) {
  for (const std::string type : {"u64", "u32"}) {
    table["cvta." + space + "." + type] = {"ds", unary<std::uint64_t, IntoWindow<Window>>};
    table["cvta.to." + space + "." + type] = {"ds", out_of_window<Window>};
  }
  table["isspacep." + space] = {"ds", unary<std::uint64_t, IsInWindow<Window>>};
}

}  // namespace

void add_memory_instructions(FormTable& table) {
  add_type<std::uint8_t>(table, {"b8", "u8"});
  add_type<std::int8_t>(table, {"s8"});
  add_type<std::uint16_t>(table, {"b16", "u16"});
  add_type<std::int16_t>(table, {"s16"});
  add_type<std::uint32_t>(table, {"b32", "u32", "f32"});
  add_type<std::int32_t>(table, {"s32"});
  add_type<std::uint64_t>(table, {"b64", "u64", "s64", "f64"});
  add_space<0>(table, "global");
  add_space<kSharedWindow>(table, "shared");
  add_space<kLocalWindow>(table, "local");
  add_space<kParamWindow>(table, "param");
  // Constants are variables in device memory here.
  table["cvta.const.u64"] = table["cvta.to.const.u64"] = {"ds", unary<std::uint64_t, Same>};
}

}  // namespace lathe::ptx
