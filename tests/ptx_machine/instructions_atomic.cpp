// atom and red.
#include <algorithm>

#include "half.h"
#include "instruction_table.h"
#include "warp.h"

namespace lathe::ptx {
namespace {

struct Add {
  template <class T>
  T operator()(T old, T operand) const {
    return static_cast<T>(old + operand);
  }
};
struct Min {
  template <class T>
  T operator()(T old, T operand) const {
    return std::min(old, operand);
  }
};
struct Max {
  template <class T>
  T operator()(T old, T operand) const {
    return std::max(old, operand);
  }
};
struct And {
  template <class T>
  T operator()(T old, T operand) const {
    return old & operand;
  }
};
struct Or {
  template <class T>
  T operator()(T old, T operand) const {
    return old | operand;
  }
};
struct Xor {
  template <class T>
  T operator()(T old, T operand) const {
    return old ^ operand;
  }
};
struct Exchange {
  template <class T>
  T operator()(T, T operand) const {
    return operand;
  }
};
struct Increment {  // wraps to 0 behind the operand
  std::uint32_t operator()(std::uint32_t old, std::uint32_t operand) const {
    return old >= operand ? 0 : old + 1;
  }
};
struct Decrement {
  std::uint32_t operator()(std::uint32_t old, std::uint32_t operand) const {
    return old == 0 || old > operand ? operand : old - 1;
  }
};
template <class Format>
struct AddHalves {
  template <class T>
  T operator()(T old, T operand) const {
    T out = 0;
    for (std::size_t shift = 0; shift < 8 * sizeof(T); shift += 16) {
      const auto part = [&](T bits) {
        return from_half<Format>(static_cast<std::uint16_t>(bits >> shift));
      };
      const std::uint16_t sum = to_half<Format>(round_to_odd(part(old), part(operand)));
      out = static_cast<T>(out | static_cast<T>(sum) << shift);
    }
    return out;
  }
};

// Lanes follow one another. `combine` makes the new value of the old one and the operands.
template <class T, class Combine>
void update(Warp& warp, const Instruction& instruction, std::uint32_t lanes,
            const Combine& combine) {
  if (warp.fenced && instruction.space != Space::shared) {
    publish(warp, (*warp.block->published)[warp.block->number]);
    warp.fenced = false;
  }
  if (instruction.space != Space::shared) warp.block->acquired = true;
  for_lanes(lanes, [&](int lane) {
    const std::uint64_t address = warp.lanes(instruction.sources[0])[lane] +
                                  static_cast<std::uint64_t>(instruction.offsets[0]);
    std::uint8_t* memory =
        access(warp, lane, instruction.space, address, sizeof(T), Use::atomic, true);
    T old;
    std::memcpy(&old, memory, sizeof(T));
    const T value = combine(old, lane);
    std::memcpy(memory, &value, sizeof(T));
    if (!instruction.destinations.empty()) warp.lanes(instruction.destinations[0])[lane] = put(old);
  });
}

template <class T, class Operation>
void atomic(Warp& warp, const Instruction& instruction, std::uint32_t lanes) {
  const std::uint64_t* operand = warp.lanes(instruction.sources[1]);
  update<T>(warp, instruction, lanes,
            [&](T old, int lane) { return Operation{}(old, get<T>(operand[lane])); });
}

template <class T>
void compare_and_swap(Warp& warp, const Instruction& instruction, std::uint32_t lanes) {
  const std::uint64_t* expected = warp.lanes(instruction.sources[1]);
  const std::uint64_t* desired = warp.lanes(instruction.sources[2]);
  update<T>(warp, instruction, lanes, [&](T old, int lane) {
    return old == get<T>(expected[lane]) ? get<T>(desired[lane]) : old;
  });
}

template <class T, class Operation>
void add_operation(FormTable& table, const std::string& name) {
  table["atom." + name] = {"das", atomic<T, Operation>};
  table["red." + name] = {"as", atomic<T, Operation>};
}

template <class T>
void add_order(FormTable& table, const std::string& type) {
  add_operation<T, Min>(table, "min." + type);
  add_operation<T, Max>(table, "max." + type);
}

template <class T>
void add_bits(FormTable& table, const std::string& type) {
  add_operation<T, And>(table, "and." + type);
  add_operation<T, Or>(table, "or." + type);
  add_operation<T, Xor>(table, "xor." + type);
  table["atom.exch." + type] = {"das", atomic<T, Exchange>};
  table["atom.cas." + type] = {"dass", compare_and_swap<T>};
}

}  // namespace

void add_atomic_instructions(FormTable& table) {
  add_operation<std::uint32_t, Add>(table, "add.u32");
  add_operation<std::uint32_t, Add>(table, "add.s32");
  add_operation<std::uint64_t, Add>(table, "add.u64");
  add_operation<float, Add>(table, "add.f32");
  add_operation<double, Add>(table, "add.f64");
  add_operation<std::uint16_t, AddHalves<Bf16Format>>(table, "add.bf16");
  add_operation<std::uint32_t, AddHalves<Bf16Format>>(table, "add.bf16x2");
  add_operation<std::uint16_t, AddHalves<F16Format>>(table, "add.f16");
  add_operation<std::uint32_t, AddHalves<F16Format>>(table, "add.f16x2");
  add_order<std::uint32_t>(table, "u32");
  add_order<std::int32_t>(table, "s32");
  add_order<std::uint64_t>(table, "u64");
  add_order<std::int64_t>(table, "s64");
  add_bits<std::uint32_t>(table, "b32");
  add_bits<std::uint64_t>(table, "b64");
  table["atom.cas.b16"] = {"dass", compare_and_swap<std::uint16_t>};
  add_operation<std::uint32_t, Increment>(table, "inc.u32");
  add_operation<std::uint32_t, Decrement>(table, "dec.u32");
}

}  // namespace lathe::ptx
