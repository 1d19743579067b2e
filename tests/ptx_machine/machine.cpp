#include "machine.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "warp.h"

namespace lathe::ptx {
namespace {

// What fresh registers hold: NaN as f32, f64, bf16 and f16, and no valid address.
constexpr std::uint64_t kFreshRegister = 0x7fff'7fff'7fff'7fffull;

constexpr std::uint64_t kMaxThreads = 1024;
constexpr std::size_t kMaxSharedBytes = 227 * 1024;

// Long enough that switching costs nothing, short enough that a warp which waits for another one
// in a loop lets it run.
constexpr std::uint64_t kQuantum = 1 << 16;

std::string name_place(const Kernel& kernel, SourcePlace place) {
  if (kernel.files == nullptr || !kernel.files->contains(place.file)) return "";
  const std::string& path = kernel.files->at(place.file);
  return fmt::format("{}:{}", path.substr(path.rfind('/') + 1), place.line);
}

std::uint32_t special_value(Special what, const Block& block, const Warp& warp,
                            std::uint32_t lane) {
  const Dim& size = block.shape->block;
  const Dim& grid = block.shape->grid;
  const std::uint32_t thread = static_cast<std::uint32_t>(warp.index) * kWarpSize + lane;
  const std::uint32_t bit = 1u << lane;
  switch (what) {
    case Special::tid_x:
      return thread % size.x;
    case Special::tid_y:
      return thread / size.x % size.y;
    case Special::tid_z:
      return thread / (size.x * size.y);
    case Special::ntid_x:
      return size.x;
    case Special::ntid_y:
      return size.y;
    case Special::ntid_z:
      return size.z;
    case Special::ctaid_x:
      return block.index.x;
    case Special::ctaid_y:
      return block.index.y;
    case Special::ctaid_z:
      return block.index.z;
    case Special::nctaid_x:
      return grid.x;
    case Special::nctaid_y:
      return grid.y;
    case Special::nctaid_z:
      return grid.z;
    case Special::laneid:
      return lane;
    case Special::warpid:
      return static_cast<std::uint32_t>(warp.index);
    case Special::nwarpid:
      return static_cast<std::uint32_t>(block.warps.size());
    case Special::smid:
      return 0;
    case Special::lanemask_eq:
      return bit;
    case Special::lanemask_lt:
      return bit - 1;
    case Special::lanemask_le:
      return bit | (bit - 1);
    case Special::lanemask_gt:
      return ~(bit | (bit - 1));
    case Special::lanemask_ge:
      return ~(bit - 1);
    case Special::dynamic_smem_size:
      return static_cast<std::uint32_t>(block.shape->dynamic_shared_bytes);
    case Special::total_smem_size:
      return static_cast<std::uint32_t>(block.shared.size());
  }
  return 0;
}

void start_warp(Warp& warp, Block& block, int index) {
  const Kernel& kernel = *block.kernel;
  const auto threads = static_cast<std::uint32_t>(block.shape->block.count());
  const std::uint32_t left = threads - static_cast<std::uint32_t>(index) * kWarpSize;
  std::vector<std::uint64_t> registers = std::move(warp.registers);
  registers.assign(static_cast<std::size_t>(kernel.registers) * kWarpSize, kFreshRegister);
  warp = Warp{};
  warp.registers = std::move(registers);
  warp.block = &block;
  warp.index = index;
  warp.live = left >= kWarpSize ? kAllLanes : (1u << left) - 1;
  for (const Constant& constant : kernel.constants) {
    const auto base =
        static_cast<std::uint64_t>(constant.in_dynamic_shared ? kernel.dynamic_shared_begin() : 0);
    std::fill_n(warp.lanes(constant.number), kWarpSize, base + constant.value);
  }
  for (const SpecialRegister& special : kernel.specials) {
    for (std::uint32_t lane = 0; lane < kWarpSize; ++lane)
      warp.lanes(special.number)[lane] = special_value(special.what, block, warp, lane);
  }
}

void start_block(Block& block, std::uint32_t number) {
  const Kernel& kernel = *block.kernel;
  const Dim& grid = block.shape->grid;
  block.number = number;
  block.index = {number % grid.x, number / grid.x % grid.y, number / (grid.x * grid.y)};
  block.acquired = false;
  block.barriers = {};
  const std::size_t dynamic = block.shape->dynamic_shared_bytes;
  const int fixed = dynamic > 0 ? kernel.dynamic_shared_begin() : kernel.static_shared_bytes;
  block.shared.assign(static_cast<std::size_t>(fixed) + dynamic, kFreshByte);
  block.local.assign(static_cast<std::size_t>(kernel.local_bytes) * block.warps.size() * kWarpSize,
                     kFreshByte);
  for (std::size_t i = 0; i < block.warps.size(); ++i)
    start_warp(block.warps[i], block, static_cast<int>(i));
}

[[noreturn]] void fail_deadlock(Block& block) {
  const auto stuck = std::find_if(block.warps.begin(), block.warps.end(),
                                  [](const Warp& warp) { return warp.live != 0; });
  const int lane = first_lane(stuck->gathering != 0 ? stuck->gathering : stuck->live);
  const auto l = static_cast<std::size_t>(lane);
  stuck->current = static_cast<int>(stuck->pc[l]);
  if (stuck->gathering != 0) {
    fail(*stuck, lane, "deadlock: waits for lanes of its warp that never come here");
  }
  stuck->current -= 1;  // a lane at a barrier stands behind it already
  const Barrier& barrier = block.barriers[stuck->barrier[l]];
  const std::uint64_t expected =
      barrier.expected != 0 ? barrier.expected : block.shape->block.count();
  fail(*stuck, lane,
       fmt::format("deadlock: barrier {} has {} of {} threads, and the others never come",
                   stuck->barrier[l], barrier.arrived, expected));
}

void run_block(Block& block, std::mt19937_64& random) {
  const Order order = machine().options.order;
  std::vector<std::size_t> turns(block.warps.size());
  std::iota(turns.begin(), turns.end(), std::size_t{0});
  if (order == Order::reverse) std::reverse(turns.begin(), turns.end());
  for (bool alive = true; alive;) {
    if (order == Order::shuffled) std::shuffle(turns.begin(), turns.end(), random);
    bool ran = false;
    alive = false;
    for (const std::size_t turn : turns) {
      Warp& warp = block.warps[turn];
      if ((warp.live & ~warp.at_barrier & ~warp.gathering) != 0) {
        ran = true;
        run_warp(warp, order == Order::shuffled ? 1 + random() % 200 : kQuantum);
      }
      alive |= warp.live != 0;
    }
    if (alive && !ran) fail_deadlock(block);
  }
}

}  // namespace

void fail(const Warp& warp, int lane, const std::string& message) {
  const Block& block = *warp.block;
  const Instruction& instruction = block.kernel->code[static_cast<std::size_t>(warp.current)];
  const Dim& size = block.shape->block;
  const std::uint32_t thread = static_cast<std::uint32_t>(warp.index * kWarpSize + lane);
  std::string place = name_place(*block.kernel, instruction.place);
  const std::string outer = name_place(*block.kernel, instruction.inlined_at);
  if (!outer.empty()) place += fmt::format(" (inlined at {})", outer);
  throw Error(
      fmt::format("{}: kernel {}: block ({},{},{}) thread ({},{},{}): {}\n    PTX line {}: {}",
                  place.empty() ? "no source line" : place, block.kernel->name, block.index.x,
                  block.index.y, block.index.z, thread % size.x, thread / size.x % size.y,
                  thread / (size.x * size.y), message, instruction.ptx_line, instruction.text));
}

void check_launch(const Kernel& kernel, const LaunchShape& shape) {
  const auto refuse = [&](const std::string& message) {
    throw Error(fmt::format("{}: {}", kernel.name, message));
  };
  constexpr std::uint32_t kMaxGridX = 0x7fffffff, kMaxGridYZ = 65535, kMaxBlockZ = 64;
  const Dim &grid = shape.grid, &block = shape.block;
  if (grid.count() == 0 || grid.x > kMaxGridX || grid.y > kMaxGridYZ || grid.z > kMaxGridYZ) {
    refuse(fmt::format("invalid grid ({}, {}, {})", grid.x, grid.y, grid.z));
  }
  const std::uint64_t limit = std::min(kMaxThreads, static_cast<std::uint64_t>(kernel.max_threads));
  if (block.count() == 0 || block.count() > limit || block.z > kMaxBlockZ) {
    refuse(fmt::format("invalid block ({}, {}, {}): at most {} threads", block.x, block.y, block.z,
                       limit));
  }
  const std::size_t shared =
      static_cast<std::size_t>(kernel.static_shared_bytes) + shape.dynamic_shared_bytes;
  if (shared > kMaxSharedBytes) {
    refuse(fmt::format("{} bytes of shared memory, there are {}", shared, kMaxSharedBytes));
  }
}

void begin_launch(const char* what) {
  Machine& state = machine();
  ++state.launches;
  state.order.launches.push_back({state.order.now.stream, state.order.now.time, what});
}

void launch(const Kernel& kernel, const LaunchShape& shape, const void* parameters) {
  check_launch(kernel, shape);
  Machine& state = machine();
  begin_launch(kernel.name.c_str());
  state.statistics.at_launch = state.statistics.warp_instructions;
  std::mt19937_64 random(state.options.seed);
  std::vector<std::uint32_t> order(shape.grid.count());
  std::iota(order.begin(), order.end(), 0u);
  if (state.options.order == Order::reverse) std::reverse(order.begin(), order.end());
  if (state.options.order == Order::shuffled) std::shuffle(order.begin(), order.end(), random);

  Published published;
  Block block;
  block.kernel = &kernel;
  block.shape = &shape;
  block.parameters = static_cast<const std::uint8_t*>(parameters);
  block.published = &published;
  block.warps.resize((shape.block.count() + kWarpSize - 1) / kWarpSize);
  const std::size_t shared =
      static_cast<std::size_t>(kernel.dynamic_shared_begin()) + shape.dynamic_shared_bytes;
  if (shared > state.shared_shadow_bytes) {
    state.shared_shadow = ShadowMemory(shared);
    state.shared_shadow_bytes = shared;
  }
  for (const std::uint32_t number : order) {
    start_block(block, number);
    run_block(block, random);
  }
}

}  // namespace lathe::ptx
