// Memory as kernels see it: every access is checked against its bounds, its alignment, and what
// other threads did there since they last met.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "program.h"

namespace lathe::ptx {

// Fresh memory holds these bytes: NaN in every floating-point type.
constexpr int kFreshByte = 0xff;

constexpr std::size_t kMostDevices = 16;

// Generic addresses of memory that is not global are in windows that no pointer of the host is in.
constexpr std::uint64_t kSharedWindow = 0x7000'0000'0000'0000;
constexpr std::uint64_t kLocalWindow = 0x7100'0000'0000'0000;
constexpr std::uint64_t kParamWindow = 0x7200'0000'0000'0000;

// One access to memory. `time` is the clock of the warp that made it.
struct Access {
  std::uint32_t launch = 0, block = 0, time = 0;
  std::uint16_t thread = 0;
  bool strong = false;  // atomic, volatile, relaxed, ...
};

// The last write and the last read of two bytes.
struct Shadow {
  Access write, read;
};

// A Shadow for each two bytes. Its memory stays untouched, and so free, until it is used.
class ShadowMemory {
 public:
  ShadowMemory() = default;
  explicit ShadowMemory(std::size_t bytes);
  Shadow* at(std::uint64_t offset) const { return entries_.get() + offset / 2; }

 private:
  struct Free {
    void operator()(Shadow* entries) const;
  };
  std::unique_ptr<Shadow[], Free> entries_;
};

enum class Use : std::uint8_t { read, write, atomic };

struct Allocation {
  std::uint8_t* memory;
  std::uint64_t begin, end;  // addresses
  int device;
  ShadowMemory shadow;
};

// Of all devices: their addresses differ.
class DeviceMemory {
 public:
  ~DeviceMemory();
  // On the current device. Null when there is no memory.
  void* allocate(std::size_t bytes);
  // False when the pointer is no allocation's beginning.
  bool release(void* pointer);
  // The allocation that holds the address, or the last one before it, or null.
  const Allocation* near(std::uint64_t address);
  // Whether all of it is memory of the current device, or any of it of any device.
  bool contains(const void* pointer, std::size_t bytes);
  bool touches(const void* pointer, std::size_t bytes);
  std::size_t allocated_bytes() const;  // of the current device

  // Notes that the launch that has begun uses all of it, which the current device has. What another
  // stream does to it meanwhile, or nothing.
  std::string find_race(const void* pointer, std::size_t bytes, Use use);

 private:
  std::map<std::uint64_t, Allocation> allocations_;
  const Allocation* last_ = nullptr;
  std::array<std::size_t, kMostDevices> allocated_bytes_{};
};

// The bytes at an address, after all checks. Throws Error.
std::uint8_t* access(Warp& warp, int lane, Space space, std::uint64_t address, int bytes, Use use,
                     bool strong = false);

}  // namespace lathe::ptx
