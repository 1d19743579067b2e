#include "bpe_words.h"

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>

#include "unicode.h"

namespace lathe {
namespace {

using enum CharacterClass;

constexpr std::uint64_t kEach = 0x0101010101010101;  // times a byte: that byte eight times
constexpr std::uint64_t kHigh = 0x80 * kEach;

// The class of each byte that is a character of its own; the others begin longer ones.
constexpr std::array<CharacterClass, 128> ascii_classes() {
  std::array<CharacterClass, 128> classes{};
  for (std::size_t c = 0; c < classes.size(); ++c) {
    const bool is_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    const bool is_space = c == ' ' || (c >= '\t' && c <= '\r');
    classes[c] = is_letter ? letter : c >= '0' && c <= '9' ? number : is_space ? space : other;
  }
  return classes;
}
constexpr std::array<CharacterClass, 128> kAscii = ascii_classes();

Character character(const char* at, const char* end) {
  const auto byte = static_cast<unsigned char>(*at);
  return byte < 0x80 ? Character{kAscii[byte], 1} : first_character(at, end);
}

// The first byte from `at` on that is no ASCII letter, or less than eight bytes before `end`. Eight
// bytes at a time without branches: how long a word is cannot be predicted.
const char* skip_letters(const char* at, const char* end) {
  while (end - at >= 8) {
    std::uint64_t bytes = 0;
    std::memcpy(&bytes, at, sizeof bytes);
    // A byte's high bit becomes: at least 'a', more than 'z', when its own is taken away.
    const std::uint64_t lower = (bytes | 0x20 * kEach) & ~kHigh;
    const std::uint64_t from_a = lower + (0x80 - 'a') * kEach;
    const std::uint64_t past_z = lower + (0x80 - 'z' - 1) * kEach;
    const std::uint64_t others = (~from_a | past_z | bytes) & kHigh;
    if (others != 0) return at + std::countr_zero(others) / 8;
    at += 8;
  }
  return at;
}

// The end of the characters of one class from `at` on.
const char* run_end(CharacterClass kind, const char* at, const char* end) {
  while (at != end) {
    if (kind == letter) at = skip_letters(at, end);
    if (at == end) break;
    const Character next = character(at, end);
    if (next.kind != kind) break;
    at += next.bytes;
  }
  return at;
}

// Of an apostrophe and what follows it; `begin`: it is none.
const char* contraction_end(const char* begin, const char* end) {
  const auto left = end - begin;
  if (left < 2) return begin;
  const char c = begin[1];
  if (c == 's' || c == 'd' || c == 'm' || c == 't') return begin + 2;
  if (left < 3) return begin;
  const char next = begin[2];
  const bool is_pair =
      (c == 'l' && next == 'l') || (c == 'v' && next == 'e') || (c == 'r' && next == 'e');
  return is_pair ? begin + 3 : begin;
}

// White space keeps its last character for what follows, unless it has only that one.
const char* space_end(const char* begin, const char* end) {
  const char* at = begin;
  const char* last = begin;
  while (at != end) {
    const Character next = character(at, end);
    if (next.kind != space) return last == begin ? at : last;
    last = at;
    at += next.bytes;
  }
  return end;
}

}  // namespace

const char* word_end(const char* begin, const char* end) {
  if (*begin == ' ' && begin + 1 != end) {
    const Character next = character(begin + 1, end);
    if (next.kind == space) return space_end(begin, end);
    return run_end(next.kind, begin + 1 + next.bytes, end);
  }
  if (*begin == '\'') {
    const char* contraction = contraction_end(begin, end);
    if (contraction != begin) return contraction;
  }
  const Character first = character(begin, end);
  if (first.kind == space) return space_end(begin, end);
  return run_end(first.kind, begin + first.bytes, end);
}

}  // namespace lathe
