#include "unicode.h"

#include <array>

#include "utf8.h"

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

Character first_character(const char* begin, const char* end) {
  const auto byte = [&](std::size_t i) -> std::uint32_t {
    return static_cast<unsigned char>(begin[i]);
  };
  if (byte(0) < 0x80) return {class_of(byte(0)), 1};  // most are
  const std::size_t length = character_bytes({begin, static_cast<std::size_t>(end - begin)});
  if (length == 0) return kStrayByte;
  std::uint32_t code = byte(0) & (0x7Fu >> length);
  for (std::size_t i = 1; i < length; ++i) code = code << 6 | (byte(i) & 0x3F);
  return {class_of(code), static_cast<std::uint8_t>(length)};
}

}  // namespace lathe
