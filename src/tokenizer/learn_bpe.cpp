// The merges of a byte-level BPE, learned from how often words occur. All distinct words stand in
// one array; what a merge costs is proportional to the number of places where it happens.
#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <queue>
#include <utility>

#include "bpe_files.h"
#include "bpe_words.h"
#include "lathe/error.h"

namespace lathe {
namespace {

constexpr std::int64_t kLeastCount = 2;

using Place = std::uint32_t;  // of a token in the array
constexpr Place kNowhere = std::numeric_limits<Place>::max();

class Learner {
 public:
  Learner(const WordCounts& words, std::int64_t vocab) : vocab_(vocab), result_(byte_vocabulary()) {
    for (std::size_t id = 0; id < result_.tokens.size(); ++id) {
      ids_.emplace(result_.tokens[id], static_cast<std::int32_t>(id));
    }
    for (const auto& [word, count] : words) add(word, count);
    queue_new_pairs();
  }

  BpeVocabulary learn() {
    const auto wanted = static_cast<std::size_t>(vocab_ - 1);  // the last is the end of text
    while (result_.tokens.size() < wanted && !queue_.empty()) {
      const Candidate top = queue_.top();
      queue_.pop();
      const std::int64_t count = pairs_.at(top.pair).count;
      if (count != top.count) {
        queue(top.pair, count);
      } else {
        merge(top.pair);
      }
    }
    result_.end_of_text = static_cast<std::int32_t>(result_.tokens.size());
    result_.tokens.emplace_back();
    return std::move(result_);
  }

 private:
  using Pair = std::uint64_t;  // left << 32 | right: sorts by age

  struct Node {
    std::int32_t token;  // -1: it was merged into its left neighbour
    Place left, right;   // in its word
    std::uint32_t word;
  };
  struct Occurrences {
    std::int64_t count = 0;
    std::vector<Place> places;  // of the left token; some may have changed since
    bool is_new = false;        // will be queued after this merge
    bool is_merge = false;      // is in the list already
  };
  struct Candidate {
    std::int64_t count;
    Pair pair;
    bool operator<(const Candidate& other) const {
      return count != other.count ? count < other.count : pair > other.pair;
    }
  };

  static Pair pair_of(std::int32_t left, std::int32_t right) {
    return static_cast<Pair>(left) << 32 | static_cast<std::uint32_t>(right);
  }

  void add(const std::string& word, std::int64_t count) {
    const std::size_t begin = nodes_.size();
    if (word.size() >= kNowhere - begin) {
      throw Error(ExitCode::data, fmt::format("the distinct words of the text have more than {} "
                                              "bytes; learn from less of it",
                                              kNowhere));
    }
    for (std::size_t i = 0; i < word.size(); ++i) {
      const auto place = static_cast<Place>(begin + i);
      nodes_.push_back({.token = ids_.at(word.substr(i, 1)),
                        .left = i == 0 ? kNowhere : place - 1,
                        .right = i + 1 == word.size() ? kNowhere : place + 1,
                        .word = static_cast<std::uint32_t>(counts_.size())});
    }
    counts_.push_back(count);
    for (std::size_t i = 0; i + 1 < word.size(); ++i) gain(static_cast<Place>(begin + i));
  }

  // A pair begins at that place now.
  void gain(Place left) {
    const Node& node = nodes_[left];
    if (node.right == kNowhere) return;
    const Pair pair = pair_of(node.token, nodes_[node.right].token);
    Occurrences& occurrences = pairs_[pair];
    occurrences.count += counts_[node.word];
    occurrences.places.push_back(left);
    if (!std::exchange(occurrences.is_new, true)) new_pairs_.push_back(pair);
  }

  // The pair that begins at that place is about to go.
  void lose(Place left) {
    const Node& node = nodes_[left];
    if (node.right == kNowhere) return;
    pairs_.at(pair_of(node.token, nodes_[node.right].token)).count -= counts_[node.word];
  }

  void queue(Pair pair, std::int64_t count) {
    if (count >= kLeastCount) queue_.push({.count = count, .pair = pair});
  }

  void queue_new_pairs() {
    for (const Pair pair : std::exchange(new_pairs_, {})) {
      Occurrences& occurrences = pairs_.at(pair);
      occurrences.is_new = false;
      queue(pair, occurrences.count);
    }
  }

  void merge(Pair pair) {
    const auto left = static_cast<std::int32_t>(pair >> 32);
    const auto right = static_cast<std::int32_t>(pair & 0xFFFFFFFF);
    const std::int32_t merged = token_of(left, right);
    Occurrences& occurrences = pairs_.at(pair);
    if (!std::exchange(occurrences.is_merge, true)) {
      result_.merges.push_back({.left = left, .right = right, .merged = merged});
    }
    std::vector<Place> places = std::exchange(occurrences.places, {});
    // The leftmost of overlapping ones first; only a token made twice puts them out of order.
    std::ranges::sort(places);
    for (const Place at : places) {
      const Node& node = nodes_[at];
      const bool is_there =
          node.token == left && node.right != kNowhere && nodes_[node.right].token == right;
      if (is_there) merge_at(at, merged);
    }
    pairs_.at(pair).count = 0;
    queue_new_pairs();
  }

  void merge_at(Place at, std::int32_t merged) {
    Node& node = nodes_[at];
    Node& gone = nodes_[node.right];
    if (node.left != kNowhere) lose(node.left);
    lose(node.right);
    node.token = merged;
    node.right = gone.right;
    gone.token = -1;
    if (node.right != kNowhere) nodes_[node.right].left = at;
    if (node.left != kNowhere) gain(node.left);
    gain(at);
  }

  // Seldom the same bytes are a token already, made of other parts.
  std::int32_t token_of(std::int32_t left, std::int32_t right) {
    std::string bytes = result_.tokens[static_cast<std::size_t>(left)] +
                        result_.tokens[static_cast<std::size_t>(right)];
    const auto next = static_cast<std::int32_t>(result_.tokens.size());
    const auto [found, is_new] = ids_.emplace(bytes, next);
    if (is_new) result_.tokens.push_back(std::move(bytes));
    return found->second;
  }

  std::int64_t vocab_;
  BpeVocabulary result_;
  std::unordered_map<std::string, std::int32_t> ids_;
  std::vector<Node> nodes_;
  std::vector<std::int64_t> counts_;  // of each word
  std::unordered_map<Pair, Occurrences> pairs_;
  std::vector<Pair> new_pairs_;
  std::priority_queue<Candidate> queue_;
};

}  // namespace

void count_words(std::string_view text, WordCounts& counts) {
  const char* const end = text.data() + text.size();
  std::string word;
  for (const char* at = text.data(); at != end;) {
    const char* next = word_end(at, end);
    word.assign(at, next);
    ++counts[word];
    at = next;
  }
}

BpeVocabulary learn_bpe(const WordCounts& words, std::int64_t vocab) {
  constexpr std::int64_t kLeast = 257;
  constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max();
  if (vocab < kLeast) {
    throw Error(ExitCode::usage,
                fmt::format("--vocab {}: must be at least {}: the bytes and the end of text", vocab,
                            kLeast));
  }
  if (vocab > kMost) {
    throw Error(ExitCode::usage, fmt::format("--vocab {}: must be at most {}", vocab, kMost));
  }
  return Learner(words, vocab).learn();
}

}  // namespace lathe
