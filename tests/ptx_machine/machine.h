// Runs kernels on the CPU, a warp instruction at a time.
#pragma once

#include <cstdint>
#include <string>

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

struct Machine {
  Options options;
  Statistics statistics;
  DeviceMemory memory;
  ShadowMemory shared_shadow;
  std::size_t shared_shadow_bytes = 0;
  std::uint32_t launches = 0;
  int device = 0;  // that runs the kernel, and whose memory is taken
};

// Made at first use: modules register themselves before main.
inline Machine& machine() {
  static Machine the_machine;
  return the_machine;
}

struct LaunchShape {
  Dim grid, block;
  std::size_t dynamic_shared_bytes = 0;
};

// Throws Error when no device would take such a launch.
void check_launch(const Kernel& kernel, const LaunchShape& shape);

// `parameters` are the kernel's parameter bytes. Throws Error.
void launch(const Kernel& kernel, const LaunchShape& shape, const void* parameters);

}  // namespace lathe::ptx
