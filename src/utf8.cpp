#include "utf8.h"

#include <algorithm>

namespace lathe {

std::size_t character_bytes(std::string_view text) {
  const auto byte = [&](std::size_t k) {
    return k < text.size() ? static_cast<unsigned char>(text[k]) : 0u;
  };
  if (text.empty()) return 0;
  const unsigned lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead < 0xC2 || lead > 0xF4) return 0;
  const std::size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  const unsigned least = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const unsigned most = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  if (byte(1) < least || byte(1) > most) return 0;
  for (std::size_t k = 2; k < length; ++k) {
    if (byte(k) < 0x80 || byte(k) > 0xBF) return 0;
  }
  return length;
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
