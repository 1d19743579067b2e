// Characters of UTF-8 text and the classes that GPT-2's split pattern has for them. Text may be any
// bytes: one that does not belong to a character (truncated, overlong, a surrogate, above U+10FFFF)
// counts as a character of its own, of the class `other`.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace lathe {

// \p{L}, \p{N}, \s and everything else.
enum class CharacterClass : std::uint8_t { other, letter, number, space };

struct Character {
  CharacterClass kind;
  std::uint8_t bytes;  // 1 to 4
};

// The first character of [begin, end), which is not empty.
Character first_character(const char* begin, const char* end);

// Characters of a class; those in no range are `other`.
struct ClassRange {
  std::uint32_t first, last;  // code points
  CharacterClass kind;
};
std::span<const ClassRange> class_ranges();  // ascending
std::string_view unicode_version();          // that the ranges are of: "16.0.0"

}  // namespace lathe
