// Text in UTF-8, which may be none.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace lathe {

// Bytes of the character that `text` begins with; 0: it begins with none. Follows Unicode 15, table
// 3-7.
std::size_t character_bytes(std::string_view text);

// Whether `text` is the beginning of a character and not all of it.
bool is_cut_character(std::string_view text);

bool is_utf8(std::string_view text);

// For a terminal: control characters but the line feed, and bytes of no character, as '?'.
std::string shown(std::string_view text);

}  // namespace lathe
