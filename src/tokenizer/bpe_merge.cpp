#include "bpe_merge.h"

#include <algorithm>
#include <array>
#include <bit>
#include <queue>

namespace lathe {
namespace {

// Up to here a search through all ranks is faster than a heap.
constexpr std::size_t kShort = 64;

std::size_t merge_short(const MergeTable& merges, std::span<std::int32_t> tokens) {
  std::array<MergeTable::Merge, kShort> found;  // for a token and the next one
  std::size_t count = tokens.size();
  for (std::size_t i = 0; i + 1 < count; ++i) found[i] = merges.find(tokens[i], tokens[i + 1]);
  while (count > 1) {
    std::size_t best = 0;
    for (std::size_t i = 1; i + 1 < count; ++i) {
      if (found[i].rank < found[best].rank) best = i;
    }
    if (found[best].rank == MergeTable::kNone) break;
    tokens[best] = found[best].merged;
    --count;
    for (std::size_t i = best + 1; i < count; ++i) {
      tokens[i] = tokens[i + 1];
      found[i - 1] = found[i];
    }
    if (best > 0) found[best - 1] = merges.find(tokens[best - 1], tokens[best]);
    if (best + 1 < count) found[best] = merges.find(tokens[best], tokens[best + 1]);
  }
  return count;
}

// Tokens in a list, where what was merged into its left neighbour stays behind, and a heap of
// ranks, where what is not true any more stays until it comes to the top.
class LongWord {
 public:
  LongWord(const MergeTable& merges, std::span<std::int32_t> tokens)
      : merges_(merges), tokens_(tokens), nodes_(tokens.size()) {
    for (std::size_t i = 0; i < nodes_.size(); ++i) nodes_[i] = {.left = i - 1, .right = i + 1};
    for (std::size_t i = 0; i + 1 < nodes_.size(); ++i) rank_again(i);
  }

  std::size_t merge() {
    while (!heap_.empty()) {
      const Candidate top = heap_.top();
      heap_.pop();
      if (nodes_[top.at].found.rank == top.rank) merge_at(top.at);
    }
    std::size_t count = 0;
    for (std::size_t at = 0; at < nodes_.size(); at = nodes_[at].right) {
      tokens_[count++] = tokens_[at];
    }
    return count;
  }

 private:
  struct Node {
    std::size_t left, right;  // the size of the word, or more: there is none
    MergeTable::Merge found = {MergeTable::kNone, 0};  // with the token on the right
  };
  struct Candidate {
    std::int32_t rank;
    std::size_t at;
    bool operator>(const Candidate& other) const {
      return rank != other.rank ? rank > other.rank : at > other.at;
    }
  };

  void rank_again(std::size_t at) {
    Node& node = nodes_[at];
    node.found = node.right < nodes_.size() ? merges_.find(tokens_[at], tokens_[node.right])
                                            : MergeTable::Merge{MergeTable::kNone, 0};
    if (node.found.rank != MergeTable::kNone) heap_.push({.rank = node.found.rank, .at = at});
  }

  void merge_at(std::size_t at) {
    Node& node = nodes_[at];
    Node& gone = nodes_[node.right];
    tokens_[at] = node.found.merged;
    gone.found.rank = MergeTable::kNone;
    node.right = gone.right;
    if (node.right < nodes_.size()) nodes_[node.right].left = at;
    rank_again(at);
    if (node.left < nodes_.size()) rank_again(node.left);
  }

  const MergeTable& merges_;
  std::span<std::int32_t> tokens_;
  std::vector<Node> nodes_;
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> heap_;
};

}  // namespace

MergeTable::MergeTable(std::span<const BpeMerge> merges) {
  const std::size_t slots = std::bit_ceil(2 * merges.size() + 2);  // at most half full
  mask_ = slots - 1;
  shift_ = 64 - std::countr_zero(slots);
  slots_.resize(slots);
  std::int32_t rank = 0;
  for (const BpeMerge& merge : merges) {
    const std::uint64_t key = key_of(merge.left, merge.right);
    std::size_t at = slot_of(key);
    while (slots_[at].key != kFree) at = (at + 1) & mask_;
    slots_[at] = {.key = key, .merge = {.rank = rank++, .merged = merge.merged}};
  }
}

std::size_t merge_tokens(const MergeTable& merges, std::span<std::int32_t> tokens) {
  return tokens.size() <= kShort ? merge_short(merges, tokens) : LongWord(merges, tokens).merge();
}

}  // namespace lathe
