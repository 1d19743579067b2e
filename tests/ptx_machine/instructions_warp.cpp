// Exchange between the lanes of a warp. The machine has gathered the lanes that a mask names.
#include <algorithm>
#include <bit>

#include "instruction_table.h"
#include "warp.h"

namespace lathe::ptx {
namespace {

enum class Shuffle { up, down, butterfly, index };

// As the PTX ISA puts it: c holds the segment mask in bits 8-12 and the clamp value in bits 0-4.
template <Shuffle Mode>
void shuffle(Warp& warp, const Instruction& instruction, std::uint32_t lanes) {
  const std::uint64_t* a = warp.lanes(instruction.sources[0]);
  const std::uint64_t* b = warp.lanes(instruction.sources[1]);
  const std::uint64_t* c = warp.lanes(instruction.sources[2]);
  std::array<std::uint64_t, kWarpSize> result;
  std::uint32_t in_range = 0;
  for_lanes(lanes, [&](int lane) {
    const int segment = static_cast<int>(c[lane] >> 8 & 31), clamp = static_cast<int>(c[lane] & 31);
    const int limit = (lane & segment) | (clamp & ~segment);
    const int offset = static_cast<int>(b[lane] & 31);
    int from = 0;
    if (Mode == Shuffle::up) from = lane - offset;
    if (Mode == Shuffle::down) from = lane + offset;
    if (Mode == Shuffle::butterfly) from = lane ^ offset;
    if (Mode == Shuffle::index) from = (lane & segment) | (offset & ~segment);
    if (Mode == Shuffle::up ? from >= limit : from <= limit) {
      in_range |= 1u << lane;
    } else {
      from = lane;
    }
    if ((lanes >> from & 1) == 0) {
      fail(warp, lane, "shuffle from lane " + std::to_string(from) + ", which does not take part");
    }
    result[static_cast<std::size_t>(lane)] = get<std::uint32_t>(a[from]);
  });
  std::uint64_t* out = warp.lanes(instruction.destinations[0]);
  for_lanes(lanes, [&](int lane) { out[lane] = result[static_cast<std::size_t>(lane)]; });
  if (instruction.destinations.size() < 2) return;
  std::uint64_t* predicate = warp.lanes(instruction.destinations[1]);
  for_lanes(lanes, [&](int lane) { predicate[lane] = in_range >> lane & 1; });
}

void set_all(Warp& warp, int number, std::uint32_t lanes, std::uint32_t value) {
  std::uint64_t* out = warp.lanes(number);
  for_lanes(lanes, [&](int lane) { out[lane] = value; });
}

enum class Vote { ballot, all, any, uniform };

template <Vote Kind>
void vote(Warp& warp, const Instruction& instruction, std::uint32_t lanes) {
  std::uint32_t ballot = lanes_where(warp.lanes(instruction.sources[0]));
  ballot = (instruction.source_negated ? ~ballot : ballot) & lanes;
  std::uint32_t result = ballot;
  if (Kind == Vote::all) result = ballot == lanes;
  if (Kind == Vote::any) result = ballot != 0;
  if (Kind == Vote::uniform) result = ballot == lanes || ballot == 0;
  set_all(warp, instruction.destinations[0], lanes, result);
}

template <class T>
void match_any(Warp& warp, const Instruction& instruction, std::uint32_t lanes) {
  const std::uint64_t* a = warp.lanes(instruction.sources[0]);
  std::array<std::uint32_t, kWarpSize> result{};
  for_lanes(lanes, [&](int lane) {
    for_lanes(lanes, [&](int other) {
      if (get<T>(a[lane]) == get<T>(a[other]))
        result[static_cast<std::size_t>(lane)] |= 1u << other;
    });
  });
  std::uint64_t* out = warp.lanes(instruction.destinations[0]);
  for_lanes(lanes, [&](int lane) { out[lane] = result[static_cast<std::size_t>(lane)]; });
}

template <class T>
void match_all(Warp& warp, const Instruction& instruction, std::uint32_t lanes) {
  const std::uint64_t* a = warp.lanes(instruction.sources[0]);
  const T first = get<T>(a[first_lane(lanes)]);
  bool same = true;
  for_lanes(lanes, [&](int lane) { same &= get<T>(a[lane]) == first; });
  set_all(warp, instruction.destinations[0], lanes, same ? lanes : 0);
  if (instruction.destinations.size() > 1)
    set_all(warp, instruction.destinations[1], lanes, same ? 1 : 0);
}

struct Add {
  template <class T>
  T operator()(T a, T b) const {
    return static_cast<T>(static_cast<std::uint32_t>(a) + static_cast<std::uint32_t>(b));
  }
};
struct Min {
  template <class T>
  T operator()(T a, T b) const {
    return std::min(a, b);
  }
};
struct Max {
  template <class T>
  T operator()(T a, T b) const {
    return std::max(a, b);
  }
};

template <class T, class Operation>
void reduce(Warp& warp, const Instruction& instruction, std::uint32_t lanes) {
  const std::uint64_t* a = warp.lanes(instruction.sources[0]);
  T result = get<T>(a[first_lane(lanes)]);
  for_lanes(lanes & (lanes - 1), [&](int lane) { result = Operation{}(result, get<T>(a[lane])); });
  set_all(warp, instruction.destinations[0], lanes, static_cast<std::uint32_t>(result));
}

void active_mask(Warp& warp, const Instruction& instruction, std::uint32_t lanes) {
  set_all(warp, instruction.destinations[0], lanes, lanes);
}

// Orders memory between the lanes of the warp.
void warp_barrier(Warp& warp, const Instruction&, std::uint32_t) {
  Clocks clocks{};
  publish(warp, clocks);
  learn(warp, clocks);
}

Form masked(std::string_view operands, Handler run) {
  return {operands, run, Flow::next, Gather::masked};
}

}  // namespace

void add_warp_instructions(FormTable& table) {
  table["shfl.up.b32"] = masked("Dssss", shuffle<Shuffle::up>);
  table["shfl.down.b32"] = masked("Dssss", shuffle<Shuffle::down>);
  table["shfl.bfly.b32"] = masked("Dssss", shuffle<Shuffle::butterfly>);
  table["shfl.idx.b32"] = masked("Dssss", shuffle<Shuffle::index>);
  table["vote.ballot.b32"] = masked("dps", vote<Vote::ballot>);
  table["vote.all.pred"] = masked("dps", vote<Vote::all>);
  table["vote.any.pred"] = masked("dps", vote<Vote::any>);
  table["vote.uni.pred"] = masked("dps", vote<Vote::uniform>);
  table["match.any.b32"] = masked("dss", match_any<std::uint32_t>);
  table["match.any.b64"] = masked("dss", match_any<std::uint64_t>);
  table["match.all.b32"] = masked("Dss", match_all<std::uint32_t>);
  table["match.all.b64"] = masked("Dss", match_all<std::uint64_t>);
  table["redux.add.u32"] = masked("dss", reduce<std::uint32_t, Add>);
  table["redux.add.s32"] = masked("dss", reduce<std::int32_t, Add>);
  table["redux.min.u32"] = masked("dss", reduce<std::uint32_t, Min>);
  table["redux.min.s32"] = masked("dss", reduce<std::int32_t, Min>);
  table["redux.max.u32"] = masked("dss", reduce<std::uint32_t, Max>);
  table["redux.max.s32"] = masked("dss", reduce<std::int32_t, Max>);
  table["bar.warp.sync"] = masked("s", warp_barrier);
  table["activemask.b32"] = {"d", active_mask};
}

}  // namespace lathe::ptx
