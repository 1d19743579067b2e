#include "utf8_stream.h"

#include <cstdint>
#include <utility>

namespace lathe {
namespace {

// Bytes of the character that a byte begins, 0 when it begins none. As this and the next function,
// Unicode 15, table 3-7.
std::size_t length_from(unsigned char lead) {
  if (lead < 0x80) return 1;
  if (lead < 0xC2 || lead > 0xF4) return 0;
  return lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
}

bool may_follow(unsigned char lead, unsigned char second) {
  const unsigned least = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const unsigned most = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  return second >= least && second <= most;
}

// Whether `text`, which is not empty, is the beginning of a character and not all of it.
bool is_cut_character(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  if (text.size() >= length_from(byte(0))) return false;
  if (text.size() > 1 && !may_follow(byte(0), byte(1))) return false;
  return text.size() < 3 || (byte(2) & 0xC0) == 0x80;
}

}  // namespace

std::string Utf8Stream::take(std::string_view bytes) {
  held_ += bytes;
  std::size_t end = held_.size();
  for (std::size_t length = 1; length <= 3 && length <= held_.size(); ++length) {
    const std::size_t begin = held_.size() - length;
    if (is_cut_character(std::string_view(held_).substr(begin))) end = begin;
  }
  std::string whole = held_.substr(0, end);
  held_.erase(0, end);
  return whole;
}

std::string Utf8Stream::finish() {
  return std::exchange(held_, {});
}

}  // namespace lathe
