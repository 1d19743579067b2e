#include "unicode.h"

#include <array>
#include <cstring>

namespace lathe {
namespace {

constexpr std::uint32_t kCodePoints = 0x110000;
constexpr Character kStrayByte = {CharacterClass::other, 1};

// Two bits for each code point: what a text uses of it stays in the cache.
class ClassTable {
 public:
  ClassTable() {
    for (const ClassRange& range : class_ranges()) {
      for (std::uint32_t code = range.first; code <= range.last; ++code) {
        bits_[code / 4] |=
            static_cast<std::uint8_t>(static_cast<unsigned>(range.kind) << (code % 4 * 2));
      }
    }
  }

  CharacterClass at(std::uint32_t code) const {
    return static_cast<CharacterClass>(bits_[code / 4] >> (code % 4 * 2) & 3u);
  }

 private:
  std::array<std::uint8_t, kCodePoints / 4> bits_{};
};

CharacterClass class_of(std::uint32_t code) {
  static const ClassTable table;
  return table.at(code);
}

}  // namespace

// The forms of UTF-8 as in table 3-7 of the Unicode standard.
Character first_character(const char* begin, const char* end) {
  const auto byte = [&](int i) -> std::uint32_t { return static_cast<unsigned char>(begin[i]); };
  const auto continues = [&](int i) { return (byte(i) & 0xC0) == 0x80; };
  const auto left = end - begin;
  const std::uint32_t lead = byte(0);
  if (lead < 0x80) return {class_of(lead), 1};
  if (lead < 0xE0) {
    if (lead < 0xC2 || left < 2 || !continues(1)) return kStrayByte;
    return {class_of((lead & 0x1F) << 6 | (byte(1) & 0x3F)), 2};
  }
  if (lead < 0xF0) {
    if (left < 3 || !continues(1) || !continues(2)) return kStrayByte;
    const std::uint32_t code = (lead & 0xF) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F);
    const bool is_surrogate = code >= 0xD800 && code < 0xE000;
    if (code < 0x800 || is_surrogate) return kStrayByte;
    return {class_of(code), 3};
  }
  if (left < 4 || !continues(1) || !continues(2) || !continues(3)) return kStrayByte;
  const std::uint32_t code =
      (lead & 0xF) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F);
  if (lead > 0xF4 || code < 0x10000 || code >= kCodePoints) return kStrayByte;
  return {class_of(code), 4};
}

}  // namespace lathe
