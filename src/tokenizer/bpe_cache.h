// Words that were met before and their tokens: a table of fixed size, where a word takes the place
// of whichever has the same hash. Most words of a text are few and short.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

namespace lathe {

// For words of less than 8 * kWords bytes with at most 2 * kWords tokens.
template <std::size_t kWords>
class WordCache {
 public:
  static constexpr std::size_t kLongest = 8 * kWords - 1;
  static constexpr std::size_t kTokens = 2 * kWords;

  // A word as numbers: its bytes, zeros, and its length in the last byte.
  class Key {
   public:
    // Reads 8 * kWords bytes from `word` on if as many stand before `end`.
    Key(std::string_view word, const char* end) {
      if (static_cast<std::size_t>(end - word.data()) >= sizeof words_) {
        std::memcpy(words_.data(), word.data(), sizeof words_);
        for (std::size_t i = 0; i < kWords; ++i) words_[i] &= mask(word.size(), i);
      } else {
        std::memcpy(words_.data(), word.data(), word.size());
      }
      words_[kWords - 1] |= std::uint64_t{word.size()} << 56;
    }
    bool operator==(const Key&) const = default;

   private:
    friend class WordCache;
    Key() = default;

    // Of the i-th eight bytes those that a word of `bytes` bytes has.
    static std::uint64_t mask(std::size_t bytes, std::size_t i) {
      const std::size_t here = bytes <= 8 * i ? 0 : bytes - 8 * i;
      return here >= 8 ? ~std::uint64_t{0} : (std::uint64_t{1} << 8 * here) - 1;
    }

    std::size_t slot() const {
      std::uint64_t hash = 0;
      for (const std::uint64_t word : words_) hash = (hash ^ word) * 0x9E3779B97F4A7C15u;
      return static_cast<std::size_t>((hash ^ hash >> 32) * 0x9E3779B97F4A7C15u >> kShift);
    }

    std::array<std::uint64_t, kWords> words_{};
  };

  WordCache() : entries_(std::size_t{1} << kBits) {}

  // Copies kTokens tokens to `to`, of which the first ones are the word's, and gives their number;
  // 0: the word is not known.
  std::size_t find(const Key& key, std::int32_t* to) const {
    const Entry& entry = entries_[key.slot()];
    if (entry.key != key) return 0;
    std::memcpy(to, entry.tokens.data(), sizeof entry.tokens);
    std::size_t count = 0;
    for (const std::int32_t token : entry.tokens) count += token >= 0 ? 1 : 0;
    return count;
  }

  void keep(const Key& key, std::span<const std::int32_t> tokens) {
    if (tokens.size() > kTokens) return;
    Entry& entry = entries_[key.slot()];
    entry.key = key;
    entry.tokens.fill(-1);
    std::copy(tokens.begin(), tokens.end(), entry.tokens.begin());
  }

 private:
  static constexpr int kBits = kWords == 2 ? 15 : 13;
  static constexpr int kShift = 64 - kBits;

  struct Entry {
    Key key;
    std::array<std::int32_t, kTokens> tokens{};
  };

  std::vector<Entry> entries_;
};

}  // namespace lathe
