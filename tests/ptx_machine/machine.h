// Runs kernels on the CPU, a warp instruction at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "memory.h"
#include "program.h"

namespace lathe::ptx {

struct Dim {
  std::uint32_t x = 1, y = 1, z = 1;
  std::uint64_t count() const { return std::uint64_t{x} * y * z; }
};

// In which order blocks and warps take turns. Asynchronous copies land at once in reverse order,
// and as late as their wait allows in the others: a program must bear both.
enum class Order { forward, reverse, shuffled };

struct Options {
  Order order = Order::forward;
  std::uint64_t seed = 1;                                    // of shuffled order
  bool races = true;                                         // look for them
  std::uint64_t instruction_limit = std::uint64_t{1} << 34;  // of one launch, by warps
};

struct Statistics {
  std::uint64_t warp_instructions = 0;
  std::uint64_t lane_instructions = 0;
  std::uint64_t at_launch = 0;  // warp instructions before the last launch
};

// The streams' times up to which all that they did is known to be over, by their numbers.
using StreamTimes = std::vector<std::uint32_t>;

// When something was done: its stream's time, which counts what the stream does.
struct Moment {
  std::uint32_t stream = 0, time = 0;
  const char* what = "";
};

// Only events, and waits of the host, order what streams do. A launch here is whatever touches
// memory.
struct StreamOrder {
  std::vector<Moment> launches = {Moment{}};  // by their numbers, which begin with 1
  Moment now;                                 // of the work that is being done
  std::shared_ptr<const StreamTimes> known;   // to it
  bool knows_all = true;                      // that other streams of the device have done
};

struct Machine {
  Options options;
  Statistics statistics;
  DeviceMemory memory;
  ShadowMemory shared_shadow;
  std::size_t shared_shadow_bytes = 0;
  std::uint32_t launches = 0;
  StreamOrder order;
  int device = 0;  // that runs the kernel, and whose memory is taken
};

// Made at first use, since modules register themselves before main, and never destroyed, since
// threads may use it until the program is gone. Its address is a constant: every access to memory
// asks for it.
inline Machine& machine() {
  alignas(Machine) static std::byte memory[sizeof(Machine)];
  [[maybe_unused]] static const Machine* const made = new (memory) Machine;
  return *reinterpret_cast<Machine*>(memory);
}

// Gives what is about to touch memory its number.
void begin_launch(const char* what);

struct LaunchShape {
  Dim grid, block;
  std::size_t dynamic_shared_bytes = 0;
};

// Throws Error when no device would take such a launch.
void check_launch(const Kernel& kernel, const LaunchShape& shape);

// `parameters` are the kernel's parameter bytes. Throws Error.
void launch(const Kernel& kernel, const LaunchShape& shape, const void* parameters);

}  // namespace lathe::ptx
