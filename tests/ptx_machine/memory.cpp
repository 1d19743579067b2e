#include "memory.h"

#include <fmt/format.h>

#include <cstdlib>
#include <new>

#include "warp.h"

namespace lathe::ptx {
namespace {

constexpr std::size_t kAlignment = 256;  // of device memory, as cudaMalloc promises

std::string where(const char* memory, std::uint64_t offset) {
  return fmt::format("{} memory byte {}", memory, offset);
}

// Whether nothing orders an earlier launch before the one that has begun.
bool concurrent_with_stream(std::uint32_t launch) {
  const StreamOrder& order = machine().order;
  const Moment& then = order.launches[launch];
  if (then.stream == order.now.stream) return false;
  const bool knows = order.known != nullptr && then.stream < order.known->size();
  return (knows ? (*order.known)[then.stream] : 0) < then.time;
}

// Whether nothing orders an access of this launch by another block before this one.
bool concurrent_with_block(const Warp& warp, const Access& then) {
  if (!warp.block->acquired) return true;
  const auto published = warp.block->published->find(then.block);
  return published == warp.block->published->end() ||
         published->second[then.thread / kWarpSize] < then.time;
}

// Whether nothing orders an earlier access before this one. Called for every two bytes: what is
// usual comes first. Shared memory's shadow still knows the blocks that were here before.
template <bool InShared, bool WithStreams>
bool concurrent(const Warp& warp, const Access& then, const Access& now) {
  if (then.launch != now.launch) return WithStreams && concurrent_with_stream(then.launch);
  if (then.block != now.block) {
    return !InShared && !(then.strong && now.strong) && concurrent_with_block(warp, then);
  }
  return then.thread != now.thread && warp.seen[then.thread / kWarpSize] < then.time &&
         !(then.strong && now.strong);
}

std::string describe_race_of_streams(bool writes, bool with_write, const Access& other,
                                     const std::string& place) {
  return fmt::format("race: {} after a {} by {} on another stream with no event between: {}",
                     writes ? "write" : "read", with_write ? "write" : "read",
                     machine().order.launches[other.launch].what, place);
}

[[noreturn]] void fail_race(const Warp& warp, int lane, bool writes, bool with_write,
                            const Access& other, const std::string& place) {
  if (other.launch != machine().launches)
    fail(warp, lane, describe_race_of_streams(writes, with_write, other, place));
  const std::string block =
      other.block == warp.block->number ? "" : fmt::format(" of block {}", other.block);
  fail(warp, lane,
       fmt::format("race: {} after a {} by thread {}{} with no barrier between: {}",
                   writes ? "write" : "read", with_write ? "write" : "read", other.thread, block,
                   place));
}

// WithStreams: whether there are other streams whose work may not be over.
template <bool InShared, bool WithStreams>
void check_races(const Machine& state, const Warp& warp, int lane, Shadow* shadow,
                 std::uint64_t offset, int bytes, Use use, bool strong) {
  const Access now{state.launches, warp.block->number, warp.time,
                   static_cast<std::uint16_t>(warp.index * kWarpSize + lane),
                   strong || use == Use::atomic};
  const bool writes = use != Use::read;
  const std::uint64_t end = (offset + static_cast<std::uint64_t>(bytes) + 1) / 2;
  for (std::uint64_t k = offset / 2; k < end; ++k, ++shadow) {
    const bool with_write = concurrent<InShared, WithStreams>(warp, shadow->write, now);
    const bool reader_concurrent = concurrent<InShared, WithStreams>(warp, shadow->read, now);
    if (with_write || (writes && reader_concurrent)) {
      fail_race(warp, lane, writes, with_write, with_write ? shadow->write : shadow->read,
                where(InShared ? "shared" : "global", offset));
    }
    // Of several readers the one of another warp stays: the next writer is less likely to have
    // met it.
    if (writes) {
      shadow->write = now;
    } else if (!reader_concurrent || shadow->read.thread / kWarpSize == warp.index) {
      shadow->read = now;
    }
  }
}

std::uint8_t* access_global(Warp& warp, int lane, std::uint64_t address, int bytes, Use use,
                            bool strong) {
  const auto size = static_cast<std::uint64_t>(bytes);
  Machine& state = machine();
  const Allocation* allocation = state.memory.near(address);
  if (allocation == nullptr) fail(warp, lane, "access outside device memory");
  if (allocation->device != state.device) {
    fail(warp, lane,
         fmt::format("access to memory of device {} by a kernel on device {}", allocation->device,
                     state.device));
  }
  if (address + size > allocation->end) {
    fail(warp, lane,
         fmt::format("{} of {} bytes ends {} bytes past the end of an allocation of {} bytes",
                     use == Use::read ? "read" : "write", bytes, address + size - allocation->end,
                     allocation->end - allocation->begin));
  }
  if (state.options.races) {
    const std::uint64_t offset = address - allocation->begin;
    Shadow* shadow = allocation->shadow.at(offset);
    if (state.order.knows_all) {
      check_races<false, false>(state, warp, lane, shadow, offset, bytes, use, strong);
    } else {
      check_races<false, true>(state, warp, lane, shadow, offset, bytes, use, strong);
    }
  }
  return allocation->memory + (address - allocation->begin);
}

void check_bounds(const Warp& warp, int lane, const char* memory, std::uint64_t offset, int bytes,
                  std::size_t size) {
  if (offset <= size && static_cast<std::size_t>(bytes) <= size - offset) return;
  fail(warp, lane,
       fmt::format("access to {} bytes at {}: there are {} bytes", bytes, where(memory, offset),
                   size));
}

}  // namespace

ShadowMemory::ShadowMemory(std::size_t bytes)
    : entries_(static_cast<Shadow*>(std::calloc(bytes / 2 + 1, sizeof(Shadow)))) {
  if (entries_ == nullptr) throw std::bad_alloc();
}

void ShadowMemory::Free::operator()(Shadow* entries) const {
  std::free(entries);
}

DeviceMemory::~DeviceMemory() {
  for (const auto& [begin, allocation] : allocations_) std::free(allocation.memory);
}

void* DeviceMemory::allocate(std::size_t bytes) {
  const std::size_t padded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  if (padded < bytes) return nullptr;
  void* memory = std::aligned_alloc(kAlignment, padded == 0 ? kAlignment : padded);
  if (memory == nullptr) return nullptr;
  std::memset(memory, kFreshByte, bytes);
  const auto begin = reinterpret_cast<std::uint64_t>(memory);
  const int device = machine().device;
  allocations_.emplace(begin, Allocation{static_cast<std::uint8_t*>(memory), begin, begin + bytes,
                                         device, ShadowMemory(bytes)});
  allocated_bytes_[static_cast<std::size_t>(device)] += bytes;
  last_ = nullptr;
  return memory;
}

bool DeviceMemory::release(void* pointer) {
  const auto found = allocations_.find(reinterpret_cast<std::uint64_t>(pointer));
  if (found == allocations_.end()) return false;
  const Allocation& allocation = found->second;
  allocated_bytes_[static_cast<std::size_t>(allocation.device)] -=
      allocation.end - allocation.begin;
  allocations_.erase(found);
  last_ = nullptr;
  std::free(pointer);
  return true;
}

const Allocation* DeviceMemory::near(std::uint64_t address) {
  // Accesses come in runs to the same allocation.
  if (last_ != nullptr && address >= last_->begin && address < last_->end) return last_;
  auto next = allocations_.upper_bound(address);
  if (next == allocations_.begin()) return nullptr;
  last_ = &std::prev(next)->second;
  return last_;
}

bool DeviceMemory::contains(const void* pointer, std::size_t bytes) {
  const auto address = reinterpret_cast<std::uint64_t>(pointer);
  const Allocation* allocation = near(address);
  return allocation != nullptr && allocation->device == machine().device &&
         address <= allocation->end && bytes <= allocation->end - address;
}

bool DeviceMemory::touches(const void* pointer, std::size_t bytes) {
  const auto begin = reinterpret_cast<std::uint64_t>(pointer);
  const Allocation* allocation = bytes == 0 ? nullptr : near(begin + bytes - 1);
  return allocation != nullptr && begin < allocation->end;
}

std::string DeviceMemory::find_race(const void* pointer, std::size_t bytes, Use use) {
  if (bytes == 0 || !machine().options.races) return "";
  const auto address = reinterpret_cast<std::uint64_t>(pointer);
  const Allocation* allocation = near(address);
  const std::uint64_t offset = address - allocation->begin;
  const Access now{machine().launches, 0, 0, 0, false};
  const bool writes = use == Use::write;
  const bool knows_all = machine().order.knows_all;
  const auto concurrent = [&](const Access& then) {
    return !knows_all && concurrent_with_stream(then.launch);
  };
  Shadow* shadow = allocation->shadow.at(offset);
  for (std::uint64_t k = offset / 2; k < (offset + bytes + 1) / 2; ++k, ++shadow) {
    const bool with_write = concurrent(shadow->write);
    if (with_write || (writes && concurrent(shadow->read))) {
      return describe_race_of_streams(writes, with_write, with_write ? shadow->write : shadow->read,
                                      where("global", offset + 2 * (k - offset / 2)));
    }
    (writes ? shadow->write : shadow->read) = now;
  }
  return "";
}

std::size_t DeviceMemory::allocated_bytes() const {
  return allocated_bytes_[static_cast<std::size_t>(machine().device)];
}

std::uint8_t* access(Warp& warp, int lane, Space space, std::uint64_t address, int bytes, Use use,
                     bool strong) {
  if (address % static_cast<std::uint64_t>(bytes) != 0) {
    fail(warp, lane, fmt::format("misaligned access: {} bytes at address 0x{:x}", bytes, address));
  }
  if (space == Space::generic) {
    constexpr std::uint64_t kWindowBits = std::uint64_t{0xff} << 56;
    space = Space::global;
    if ((address & kWindowBits) == kSharedWindow) space = Space::shared;
    if ((address & kWindowBits) == kLocalWindow) space = Space::local;
    if ((address & kWindowBits) == kParamWindow) space = Space::param;
    if (space != Space::global) address &= ~kWindowBits;
  } else if (space != Space::global) {
    address &= 0xffffffffu;  // its registers have 32 bits, and sums wrap
  }
  Block& block = *warp.block;
  if (space == Space::global) return access_global(warp, lane, address, bytes, use, strong);
  if (space == Space::shared) {
    check_bounds(warp, lane, "shared", address, bytes, block.shared.size());
    if (const Machine& state = machine(); state.options.races) {
      check_races<true, false>(state, warp, lane, state.shared_shadow.at(address), address, bytes,
                               use, strong);
    }
    return block.shared.data() + address;
  }
  if (space == Space::local) {
    const auto size = static_cast<std::size_t>(block.kernel->local_bytes);
    check_bounds(warp, lane, "local", address, bytes, size);
    const auto thread =
        static_cast<std::size_t>(warp.index) * kWarpSize + static_cast<std::size_t>(lane);
    return block.local.data() + thread * size + address;
  }
  check_bounds(warp, lane, "parameter", address, bytes,
               static_cast<std::size_t>(block.kernel->parameter_bytes));
  if (use != Use::read) fail(warp, lane, "writes to its parameters");
  return const_cast<std::uint8_t*>(block.parameters) + address;
}

}  // namespace lathe::ptx
