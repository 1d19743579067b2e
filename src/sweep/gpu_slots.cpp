#include "gpu_slots.h"

#include <algorithm>
#include <string_view>

namespace lathe {
namespace {

std::string without_blanks(std::string_view text) {
  const std::size_t first = text.find_first_not_of(' ');
  if (first == text.npos) return "";
  return std::string(text.substr(first, text.find_last_not_of(' ') - first + 1));
}

std::vector<std::string> split(std::string_view list) {
  std::vector<std::string> parts;
  for (std::size_t begin = 0; begin <= list.size();) {
    const std::size_t end = std::min(list.find(',', begin), list.size());
    parts.push_back(without_blanks(list.substr(begin, end - begin)));
    begin = end + 1;
  }
  return parts;
}

}  // namespace

std::vector<std::string> visible_gpus(const std::optional<std::string>& variable, int count) {
  std::vector<std::string> gpus;
  if (variable) {
    gpus = split(*variable);
    gpus.resize(std::min(gpus.size(), static_cast<std::size_t>(std::max(count, 0))));
  } else {
    for (int i = 0; i < count; ++i) gpus.push_back(std::to_string(i));
  }
  return gpus;
}

std::optional<std::string> gpu_of_slot(const std::vector<std::string>& gpus, std::size_t slot) {
  if (gpus.empty()) return std::nullopt;
  return gpus[slot % gpus.size()];
}

}  // namespace lathe
