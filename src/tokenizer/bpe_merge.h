// The merging of a word's tokens: neighbours that have a rank become one token, the lowest rank
// first and of equal ranks the leftmost, until none is left.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "lathe/bpe.h"

namespace lathe {

// Which neighbours merge: a hash table of pairs.
class MergeTable {
 public:
  static constexpr std::int32_t kNone = INT32_MAX;  // above every rank

  struct Merge {
    std::int32_t rank, merged;
  };

  // No pair may come twice.
  explicit MergeTable(std::span<const BpeMerge> merges);

  Merge find(std::int32_t left, std::int32_t right) const {
    const std::uint64_t key = key_of(left, right);
    for (std::size_t at = slot_of(key);; at = (at + 1) & mask_) {
      const Slot& slot = slots_[at];
      if (slot.key == key || slot.key == kFree) return slot.merge;
    }
  }

 private:
  static constexpr std::uint64_t kFree = UINT64_MAX;  // no pair: ids are not negative

  struct Slot {
    std::uint64_t key = kFree;
    Merge merge = {kNone, 0};
  };

  static std::uint64_t key_of(std::int32_t left, std::int32_t right) {
    return static_cast<std::uint64_t>(left) << 32 | static_cast<std::uint32_t>(right);
  }
  std::size_t slot_of(std::uint64_t key) const {
    return static_cast<std::size_t>(key * 0x9E3779B97F4A7C15u >> shift_);  // Fibonacci hashing
  }

  int shift_;
  std::size_t mask_;
  std::vector<Slot> slots_;
};

// Merges `tokens` in place and gives the number that is left, from the front on. Takes time
// proportional to n log n, for any n and any tokens.
std::size_t merge_tokens(const MergeTable& merges, std::span<std::int32_t> tokens);

}  // namespace lathe
