// Branches, barriers, fences, and the ways a kernel gives up.
#include <fmt/format.h>

#include "instruction_table.h"
#include "warp.h"

namespace lathe::ptx {
namespace {

// Whatever only makes the hardware faster.
void nothing(Warp&, const Instruction&, std::uint32_t) {}

// An atomic after it makes known to other blocks what came before.
void fence(Warp& warp, const Instruction&, std::uint32_t) {
  warp.fenced = true;
}

void trap(Warp& warp, const Instruction&, std::uint32_t lanes) {
  fail(warp, first_lane(lanes), "trap");
}

std::string text_at(std::uint64_t address) {
  const Allocation* allocation = machine().memory.near(address);
  if (allocation == nullptr || address >= allocation->end) return "?";
  const auto* text =
      reinterpret_cast<const char*>(allocation->memory + (address - allocation->begin));
  return {text, strnlen(text, allocation->end - address)};
}

// __assertfail(message, file, line, function, ...)
void assertion_failed(Warp& warp, const Instruction& instruction, std::uint32_t lanes) {
  const int lane = first_lane(lanes);
  const auto argument = [&](std::size_t i, int bytes) {
    const std::uint64_t address = warp.lanes(instruction.sources[i])[lane];
    std::uint64_t value = 0;
    std::memcpy(&value, access(warp, lane, Space::local, address, bytes, Use::read),
                static_cast<std::size_t>(bytes));
    return value;
  };
  if (instruction.sources.size() < 4) fail(warp, lane, "assertion failed");
  fail(warp, lane,
       fmt::format("assertion failed: {} ({}:{}, {})", text_at(argument(0, 8)),
                   text_at(argument(1, 8)), argument(2, 4), text_at(argument(3, 8))));
}

}  // namespace

void add_control_instructions(FormTable& table) {
  table["bra"] = {"l", nullptr, Flow::branch};
  table["ret"] = table["exit"] = {"", nullptr, Flow::exit};
  table["bar.sync"] = table["barrier.sync"] = {"s?s", nullptr, Flow::barrier};
  table["bar.arrive"] = table["barrier.arrive"] = {"ss", nullptr, Flow::arrive};
  for (const char* key : {"membar.gl", "membar.sys", "fence.acq_rel.gpu", "fence.acq_rel.sys",
                          "fence.sc.gpu", "fence.sc.sys"}) {
    table[key] = {"", fence};
  }
  for (const char* key : {"membar.cta", "fence.acq_rel.cta", "fence.sc.cta", "griddepcontrol.wait",
                          "griddepcontrol.launch_dependents"}) {
    table[key] = {"", nothing};
  }
  table["prefetch"] = {"a", nothing};
  table["nanosleep.u32"] = {"s", nothing};
  table["trap"] = {"", trap};
  table["call.__assertfail"] = {"c", assertion_failed};
}

}  // namespace lathe::ptx
