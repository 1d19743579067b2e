// cp.async: copies from global to shared memory that a thread starts and later waits for. In
// reverse order they land at once. Otherwise they land in the wait, and until then the target
// holds NaN: that is how a wait that is missing or too weak shows.
#include <fmt/format.h>

#include "instruction_table.h"
#include "warp.h"

namespace lathe::ptx {
namespace {

bool lands_at_once() {
  return machine().options.order == Order::reverse;
}

void land(Warp& warp, int lane, const AsyncCopy& copy) {
  std::uint8_t* to = access(warp, lane, Space::shared, copy.to, copy.bytes, Use::write);
  const auto valid = static_cast<std::size_t>(copy.valid);
  if (valid > 0)
    std::memcpy(to, access(warp, lane, Space::global, copy.from, copy.valid, Use::read), valid);
  std::memset(to + valid, 0, static_cast<std::size_t>(copy.bytes) - valid);
}

// sources: target, source and perhaps how many bytes of it to read.
void start_copy(Warp& warp, const Instruction& instruction, std::uint32_t lanes) {
  const auto bytes = static_cast<int>(instruction.immediate);
  const bool only_16 = instruction.text.find(".cg") != std::string::npos;
  if (bytes != 16 && (only_16 || (bytes != 4 && bytes != 8))) {
    fail(warp, first_lane(lanes), fmt::format("cp.async of {} bytes", bytes));
  }
  for_lanes(lanes, [&](int lane) {
    const auto address = [&](std::size_t i) {
      return warp.lanes(instruction.sources[i])[lane] +
             static_cast<std::uint64_t>(instruction.offsets[i]);
    };
    AsyncCopy copy{address(0), address(1), bytes, bytes};
    if (instruction.sources.size() > 2)
      copy.valid = get<std::int32_t>(warp.lanes(instruction.sources[2])[lane]);
    if (copy.valid < 0 || copy.valid > bytes) {
      fail(warp, lane, fmt::format("cp.async reads {} of {} bytes", copy.valid, bytes));
    }
    std::uint8_t* to = access(warp, lane, Space::shared, copy.to, bytes, Use::write);
    if (copy.from % static_cast<std::uint64_t>(bytes) != 0) {
      fail(warp, lane,
           fmt::format("misaligned access: {} bytes at address 0x{:x}", bytes, copy.from));
    }
    if (copy.valid > 0) access(warp, lane, Space::global, copy.from, copy.valid, Use::read);
    std::memset(to, kFreshByte, static_cast<std::size_t>(bytes));
    if (lands_at_once()) {
      land(warp, lane, copy);
    } else {
      warp.copies[static_cast<std::size_t>(lane)].open.push_back(copy);
    }
  });
}

void commit(Warp& warp, const Instruction&, std::uint32_t lanes) {
  for_lanes(lanes, [&](int lane) {
    AsyncCopies& copies = warp.copies[static_cast<std::size_t>(lane)];
    copies.groups.push_back(std::move(copies.open));
    copies.open.clear();
  });
}

// Lands all but the last `left` groups.
void wait_until(Warp& warp, std::uint32_t lanes, std::size_t left) {
  for_lanes(lanes, [&](int lane) {
    AsyncCopies& copies = warp.copies[static_cast<std::size_t>(lane)];
    for (; copies.groups.size() > left; copies.groups.pop_front()) {
      for (const AsyncCopy& copy : copies.groups.front()) land(warp, lane, copy);
    }
  });
}

void wait_group(Warp& warp, const Instruction& instruction, std::uint32_t lanes) {
  wait_until(warp, lanes, static_cast<std::size_t>(instruction.immediate));
}

void wait_all(Warp& warp, const Instruction& instruction, std::uint32_t lanes) {
  commit(warp, instruction, lanes);
  wait_until(warp, lanes, 0);
}

}  // namespace

void add_copy_instructions(FormTable& table) {
  table["cp.async.ca"] = table["cp.async.cg"] = {"aai?s", start_copy};
  table["cp.async.commit_group"] = {"", commit};
  table["cp.async.wait_group"] = {"i", wait_group};
  table["cp.async.wait_all"] = {"", wait_all};
}

}  // namespace lathe::ptx
