#include "utf8_stream.h"

#include <utility>

#include "utf8.h"

namespace lathe {
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
