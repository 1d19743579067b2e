// How a warp advances: in lock step, the lanes furthest behind first, which brings diverged lanes
// back together.
#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "warp.h"

namespace lathe::ptx {
namespace {

constexpr std::uint32_t kNowhere = 0xffffffffu;

// Lanes at the same instruction, and how far the next ones are.
struct Front {
  std::uint32_t pc = kNowhere, lanes = 0, others = kNowhere;
};

Front furthest_behind(const Warp& warp, std::uint32_t active) {
  Front front;
  for (std::uint32_t rest = active; rest != 0; rest &= rest - 1)
    front.pc = std::min(front.pc, warp.pc[static_cast<std::size_t>(first_lane(rest))]);
  for (std::uint32_t rest = active; rest != 0; rest &= rest - 1) {
    const int lane = first_lane(rest);
    const std::uint32_t pc = warp.pc[static_cast<std::size_t>(lane)];
    if (pc == front.pc) {
      front.lanes |= 1u << lane;
    } else {
      front.others = std::min(front.others, pc);
    }
  }
  return front;
}

void set_pc(Warp& warp, std::uint32_t lanes, std::uint32_t pc) {
  for_lanes(lanes, [&](int lane) { warp.pc[static_cast<std::size_t>(lane)] = pc; });
}

int ptx_line(const Warp& warp, int instruction) {
  return warp.block->kernel->code[static_cast<std::size_t>(instruction)].ptx_line;
}

std::uint32_t live_threads(const Block& block) {
  std::uint32_t live = 0;
  for (const Warp& warp : block.warps) live += static_cast<std::uint32_t>(std::popcount(warp.live));
  return live;
}

void release_barrier(Block& block, std::uint32_t id) {
  for (Warp& warp : block.warps) {
    std::uint32_t released = 0;
    for_lanes(warp.at_barrier, [&](int lane) {
      if (warp.barrier[static_cast<std::size_t>(lane)] == id) released |= 1u << lane;
    });
    if (released == 0) continue;
    warp.at_barrier &= ~released;
    learn(warp, block.barriers[id].clocks);
  }
  block.barriers[id] = {};
}

void arrive_at_barrier(Warp& warp, const Instruction& instruction, std::uint32_t lanes) {
  Block& block = *warp.block;
  const int lane = first_lane(lanes);
  const auto id = static_cast<std::uint32_t>(warp.lanes(instruction.sources[0])[lane]);
  if (id >= block.barriers.size()) fail(warp, lane, fmt::format("barrier {} of 16", id));
  Barrier& barrier = block.barriers[id];
  const std::uint32_t expected =
      instruction.sources.size() > 1
          ? static_cast<std::uint32_t>(warp.lanes(instruction.sources[1])[lane])
          : 0;
  const auto threads = static_cast<std::uint32_t>(block.shape->block.count());
  if (expected % kWarpSize != 0 || expected > threads) {
    fail(warp, lane, fmt::format("a barrier of {} threads in a block of {}", expected, threads));
  }
  if (barrier.arrived > 0 && barrier.expected != expected) {
    fail(warp, lane,
         fmt::format("barrier {} is for {} threads here, for {} in PTX line {}", id, expected,
                     barrier.expected, ptx_line(warp, barrier.instruction)));
  }
  if (expected == 0) {
    if (const std::uint32_t live = live_threads(block); live != threads) {
      fail(warp, lane, fmt::format("barrier after {} threads of the block exited", threads - live));
    }
    if (barrier.arrived > 0 && barrier.instruction != warp.current) {
      fail(warp, lane,
           fmt::format("divergent barrier: other threads of the block wait in PTX line {}",
                       ptx_line(warp, barrier.instruction)));
    }
  }
  if (barrier.arrived == 0) barrier.instruction = warp.current;
  barrier.expected = expected;
  barrier.arrived += static_cast<std::uint32_t>(std::popcount(lanes));
  publish(warp, barrier.clocks);
  if (instruction.flow == Flow::barrier) {
    warp.at_barrier |= lanes;
    for_lanes(lanes, [&](int l) {
      warp.barrier[static_cast<std::size_t>(l)] = static_cast<std::uint8_t>(id);
    });
  }
  if (barrier.arrived >= (expected == 0 ? threads : expected)) release_barrier(block, id);
}

void exit_lanes(Warp& warp, std::uint32_t lanes) {
  for (const Barrier& barrier : warp.block->barriers) {
    if (barrier.arrived > 0 && barrier.expected == 0) {
      fail(warp, first_lane(lanes),
           fmt::format("exits while other threads of the block wait at the barrier in PTX line {}",
                       ptx_line(warp, barrier.instruction)));
    }
  }
  warp.live &= ~lanes;
}

// Runs an instruction of the whole warp for those of the lanes whose partners are all there; the
// others wait for theirs. Lanes with different masks make groups of their own.
void gather(Warp& warp, const Instruction& instruction, std::uint32_t lanes) {
  const auto pc = static_cast<std::uint32_t>(warp.current);
  const std::uint64_t* masks =
      instruction.gather == Gather::masked ? warp.lanes(instruction.sources.back()) : nullptr;
  const auto mask_of = [&](int lane) {
    return masks == nullptr ? kAllLanes : static_cast<std::uint32_t>(masks[lane]);
  };
  for (std::uint32_t rest = lanes; rest != 0;) {
    const int first = first_lane(rest);
    const std::uint32_t named = mask_of(first);
    std::uint32_t here = 0;
    for_lanes(rest | warp.gathering, [&](int lane) {
      const bool waits_here =
          (rest >> lane & 1) != 0 || warp.pc[static_cast<std::size_t>(lane)] == pc;
      if (waits_here && mask_of(lane) == named) here |= 1u << lane;
    });
    rest &= ~here;
    if ((here & ~named) != 0)
      fail(warp, first_lane(here & ~named), "its mask does not name itself");
    if ((named & ~warp.live) != 0) {
      fail(warp, first,
           fmt::format("needs lanes 0x{:08x}, of which 0x{:08x} exited or never were", named,
                       named & ~warp.live));
    }
    const bool complete = here == named;
    if (complete) instruction.run(warp, instruction, here);
    warp.gathering = complete ? warp.gathering & ~here : warp.gathering | here;
    set_pc(warp, here, complete ? pc + 1 : pc);
  }
}

// Whether every lane of the front takes part and nobody else has to: the usual case.
bool gathers_at_once(Warp& warp, const Instruction& instruction, std::uint32_t lanes) {
  if (instruction.gather == Gather::all) return lanes == kAllLanes;
  const std::uint64_t* masks = warp.lanes(instruction.sources.back());
  bool same = true;
  for_lanes(lanes, [&](int lane) { same &= static_cast<std::uint32_t>(masks[lane]) == lanes; });
  return same;
}

void saturate(Warp& warp, const Instruction& instruction, std::uint32_t lanes) {
  std::uint64_t* values = warp.lanes(instruction.destinations[0]);
  for_lanes(lanes, [&](int lane) {
    const auto value = get<float>(values[lane]);
    values[lane] = put(value > 0 ? std::min(value, 1.0f) : 0.0f);  // NaN becomes 0
  });
}

// Runs lanes of one front until they reach the others or part.
void advance(Warp& warp, const Front& front, std::uint64_t& quantum) {
  Statistics& statistics = machine().statistics;
  const Instruction* code = warp.block->kernel->code.data();
  std::uint32_t pc = front.pc;
  for (; pc < front.others && quantum > 0; --quantum) {
    const Instruction& instruction = code[pc];
    warp.current = static_cast<int>(pc);
    std::uint32_t lanes = front.lanes;
    if (instruction.guard >= 0) {
      const std::uint32_t set = lanes_where(warp.lanes(instruction.guard));
      lanes &= instruction.guard_negated ? ~set : set;
    }
    ++statistics.warp_instructions;
    statistics.lane_instructions += static_cast<std::uint64_t>(std::popcount(lanes));
    const bool simple =
        instruction.flow == Flow::next && (instruction.gather == Gather::none || lanes == 0 ||
                                           gathers_at_once(warp, instruction, lanes));
    if (simple || lanes == 0) {
      if (lanes != 0) instruction.run(warp, instruction, lanes);
      if (instruction.saturate) saturate(warp, instruction, lanes);
      ++pc;
      continue;
    }
    if (instruction.flow == Flow::branch && lanes == front.lanes) {
      pc = static_cast<std::uint32_t>(instruction.target);
      continue;
    }
    set_pc(warp, front.lanes & ~lanes, pc + 1);
    set_pc(
        warp, lanes,
        instruction.flow == Flow::branch ? static_cast<std::uint32_t>(instruction.target) : pc + 1);
    if (instruction.flow == Flow::exit) exit_lanes(warp, lanes);
    if (instruction.flow == Flow::barrier || instruction.flow == Flow::arrive)
      arrive_at_barrier(warp, instruction, lanes);
    if (instruction.flow == Flow::next) gather(warp, instruction, lanes);
    return;
  }
  set_pc(warp, front.lanes, pc);
}

}  // namespace

void publish(Warp& warp, Clocks& clocks) {
  for (std::size_t i = 0; i < clocks.size(); ++i) clocks[i] = std::max(clocks[i], warp.seen[i]);
  clocks[static_cast<std::size_t>(warp.index)] = warp.time++;
}

void learn(Warp& warp, const Clocks& clocks) {
  for (std::size_t i = 0; i < clocks.size(); ++i) warp.seen[i] = std::max(warp.seen[i], clocks[i]);
}

void run_warp(Warp& warp, std::uint64_t quantum) {
  const Machine& state = machine();
  while (quantum > 0) {
    const std::uint32_t active = warp.live & ~warp.at_barrier & ~warp.gathering;
    if (active == 0) return;
    advance(warp, furthest_behind(warp, active), quantum);
  }
  if (state.statistics.warp_instructions - state.statistics.at_launch >
      state.options.instruction_limit) {
    fail(warp, first_lane(warp.live), "ran too long: an endless loop?");
  }
}

}  // namespace lathe::ptx
