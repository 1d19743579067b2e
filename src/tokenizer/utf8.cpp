#include "utf8.h"

#include <algorithm>

namespace lathe {

namespace {

// The character that a text begins with.
struct Beginning {
  std::size_t length;   // bytes of the character; 0: the text begins with none
  std::size_t present;  // those of them that are there, up to one that does not belong to it
};

Beginning beginning_of(std::string_view text) {
  const auto byte = [&](std::size_t k) -> unsigned { return static_cast<unsigned char>(text[k]); };
  if (text.empty()) return {.length = 0, .present = 0};
  const unsigned lead = byte(0);
  if (lead < 0x80) return {.length = 1, .present = 1};
  if (lead < 0xC2 || lead > 0xF4) return {.length = 0, .present = 0};
  const std::size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  unsigned least = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  unsigned most = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  std::size_t present = 1;
  while (present < std::min(length, text.size()) && byte(present) >= least &&
         byte(present) <= most) {
    least = 0x80;
    most = 0xBF;
    ++present;
  }
  return {.length = length, .present = present};
}

}  // namespace

std::size_t character_bytes(std::string_view text) {
  const Beginning beginning = beginning_of(text);
  return beginning.present == beginning.length ? beginning.length : 0;
}

bool is_cut_character(std::string_view text) {
  const Beginning beginning = beginning_of(text);
  return beginning.present == text.size() && beginning.present < beginning.length;
}

bool is_utf8(std::string_view text) {
  while (const std::size_t length = character_bytes(text)) text.remove_prefix(length);
  return text.empty();
}

std::string shown(std::string_view text) {
  std::string result;
  while (!text.empty()) {
    const std::size_t length = character_bytes(text);
    const std::string_view character = text.substr(0, std::max<std::size_t>(length, 1));
    const auto first = static_cast<unsigned char>(character.front());
    const bool is_c1_control =
        length == 2 && first == 0xC2 && static_cast<unsigned char>(character[1]) < 0xA0;
    const bool is_control = (first < 0x20 && first != '\n') || first == 0x7F || is_c1_control;
    result += length == 0 || is_control ? "?" : character;
    text.remove_prefix(character.size());
  }
  return result;
}

}  // namespace lathe
