// Declarations of PTX: ".shared .align 4 .b8 name[64]".
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace lathe::ptx {

struct Declaration {
  std::string name;
  int alignment = 1;
  int element_bytes = 1;
  std::int64_t count = 1;
  bool unsized = false;  // name[]: as large as the launch says

  std::int64_t bytes() const { return element_bytes * count; }
};

// Throws Error when a word is unknown.
Declaration parse_declaration(std::string_view text);

// "f32" and so on; throws Error when there is no such type.
int type_bytes(std::string_view type);

// An integer or, as its bits, a float ("0f3F800000"); empty when the text is neither.
std::optional<std::uint64_t> parse_immediate(std::string_view text);

std::int64_t align_up(std::int64_t value, std::int64_t alignment);

}  // namespace lathe::ptx
