// The state of a running block, which the handlers of instructions work on.
#pragma once

#include <array>
#include <bit>
#include <cstring>
#include <deque>
#include <map>
#include <type_traits>
#include <vector>

#include "machine.h"

namespace lathe::ptx {

// Of cp.async: `valid` bytes come from global memory, the rest become 0.
struct AsyncCopy {
  std::uint64_t to, from;
  int bytes, valid;
};

// A thread's copies: those not yet committed, and the committed groups that are not waited for.
struct AsyncCopies {
  std::vector<AsyncCopy> open;
  std::deque<std::vector<AsyncCopy>> groups;
};

// For each warp the time up to which all it did is known to have happened.
using Clocks = std::array<std::uint32_t, kWarpSize>;

struct Block;

struct Warp {
  Block* block = nullptr;
  int index = 0;
  std::vector<std::uint64_t> registers;  // 32 lanes of register 0, 32 lanes of register 1, ...
  std::array<std::uint32_t, kWarpSize> pc{};
  std::array<std::uint8_t, kWarpSize> barrier{};  // which one a lane waits at
  std::uint32_t live = 0;                         // lanes that exist and have not exited
  std::uint32_t at_barrier = 0;
  std::uint32_t gathering = 0;  // lanes that wait at an instruction of the whole warp
  int current = 0;              // the instruction being executed
  // Happens-before between warps: `time` advances whenever the warp meets others or itself.
  std::uint32_t time = 1;
  Clocks seen{};
  bool fenced = false;  // a fence came before: the next atomic publishes what was written
  std::array<AsyncCopies, kWarpSize> copies;

  std::uint64_t* lanes(int number) {
    return registers.data() + static_cast<std::size_t>(number) * kWarpSize;
  }
};

struct Barrier {
  std::uint32_t arrived = 0;   // threads
  std::uint32_t expected = 0;  // 0: every thread of the block
  int instruction = -1;        // where the first one waits
  Clocks clocks{};             // what those who arrived know of
};

// What happens-before carries from block to block: a fence and then an atomic publish what the
// warp knows of, an atomic acquires what is published.
using Published = std::map<std::uint32_t, Clocks>;

struct Block {
  const Kernel* kernel = nullptr;
  const LaunchShape* shape = nullptr;
  const std::uint8_t* parameters = nullptr;
  Published* published = nullptr;
  bool acquired = false;
  std::uint32_t number = 0;
  Dim index;
  std::vector<std::uint8_t> shared, local;
  std::vector<Warp> warps;
  std::array<Barrier, 16> barriers;
};

// Throws an Error that names the place in the source, block, thread, and the PTX instruction.
[[noreturn]] void fail(const Warp& warp, int lane, const std::string& message);

// Adds what the warp did and has seen to `clocks`; what it does next is not in them.
void publish(Warp& warp, Clocks& clocks);
void learn(Warp& warp, const Clocks& clocks);

// Runs the warp until no lane of it can go on, or for so many instructions.
void run_warp(Warp& warp, std::uint64_t quantum);

// A register's value as T, and back. Unused high bits are 0.
template <class T>
T get(std::uint64_t bits) {
  T value;
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}
template <class T>
std::uint64_t put(T value) {
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  return bits;
}

inline int first_lane(std::uint32_t lanes) {
  return std::countr_zero(lanes);
}

// The full warp is a loop of its own: the compiler unrolls it.
template <class Visit>
inline void for_lanes(std::uint32_t lanes, const Visit& visit) {
  if (lanes == kAllLanes) {
    for (int lane = 0; lane < kWarpSize; ++lane) visit(lane);
  } else {
    for (; lanes != 0; lanes &= lanes - 1) visit(first_lane(lanes));
  }
}

// The lanes in which a predicate holds.
inline std::uint32_t lanes_where(const std::uint64_t* predicate) {
  std::uint32_t set = 0;
  for (int lane = 0; lane < kWarpSize; ++lane)
    set |= static_cast<std::uint32_t>(predicate[lane] & 1) << lane;
  return set;
}

// Handlers of elementwise instructions, from a function object on values of type T.
template <class T, class Operation>
void unary(Warp& warp, const Instruction& instruction, std::uint32_t lanes) {
  std::uint64_t* out = warp.lanes(instruction.destinations[0]);
  const std::uint64_t* a = warp.lanes(instruction.sources[0]);
  for_lanes(lanes, [&](int lane) { out[lane] = put(Operation{}(get<T>(a[lane]))); });
}
template <class T, class Operation>
void binary(Warp& warp, const Instruction& instruction, std::uint32_t lanes) {
  std::uint64_t* out = warp.lanes(instruction.destinations[0]);
  const std::uint64_t* a = warp.lanes(instruction.sources[0]);
  const std::uint64_t* b = warp.lanes(instruction.sources[1]);
  for_lanes(lanes,
            [&](int lane) { out[lane] = put(Operation{}(get<T>(a[lane]), get<T>(b[lane]))); });
}
template <class T, class Operation>
void ternary(Warp& warp, const Instruction& instruction, std::uint32_t lanes) {
  std::uint64_t* out = warp.lanes(instruction.destinations[0]);
  const std::uint64_t* a = warp.lanes(instruction.sources[0]);
  const std::uint64_t* b = warp.lanes(instruction.sources[1]);
  const std::uint64_t* c = warp.lanes(instruction.sources[2]);
  for_lanes(lanes, [&](int lane) {
    out[lane] = put(Operation{}(get<T>(a[lane]), get<T>(b[lane]), get<T>(c[lane])));
  });
}

}  // namespace lathe::ptx
