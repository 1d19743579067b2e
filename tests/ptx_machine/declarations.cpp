#include "declarations.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "program.h"
#include "scanner.h"

namespace lathe::ptx {
namespace {

std::optional<std::uint64_t> parse_digits(std::string_view digits, int base) {
  std::uint64_t value = 0;
  const char* end = digits.data() + digits.size();
  const auto [stop, error] = std::from_chars(digits.data(), end, value, base);
  if (digits.empty() || stop != end || error != std::errc()) return std::nullopt;
  return value;
}

int to_int(std::string_view text) {
  const auto value = parse_immediate(text);
  if (!value || *value > 0x7fffffff) throw Error(fmt::format("'{}' is no size", text));
  return static_cast<int>(*value);
}

bool is_storage_word(std::string_view word) {
  static constexpr std::array kWords = {".visible", ".extern", ".weak",  ".common", ".shared",
                                        ".local",   ".global", ".const", ".param",  ".ptr"};
  return std::find(kWords.begin(), kWords.end(), word) != kWords.end();
}

}  // namespace

std::int64_t align_up(std::int64_t value, std::int64_t alignment) {
  return (value + alignment - 1) / alignment * alignment;
}

int type_bytes(std::string_view type) {
  struct Type {
    std::string_view name;
    int bytes;
  };
  static constexpr std::array kTypes = {
      Type{"pred", 1}, Type{"b8", 1},  Type{"u8", 1},  Type{"s8", 1},    Type{"b16", 2},
      Type{"u16", 2},  Type{"s16", 2}, Type{"f16", 2}, Type{"bf16", 2},  Type{"b32", 4},
      Type{"u32", 4},  Type{"s32", 4}, Type{"f32", 4}, Type{"f16x2", 4}, Type{"bf16x2", 4},
      Type{"b64", 8},  Type{"u64", 8}, Type{"s64", 8}, Type{"f64", 8},   Type{"b128", 16}};
  for (const Type& known : kTypes) {
    if (known.name == type) return known.bytes;
  }
  throw Error(fmt::format("unknown type '{}'", type));
}

std::optional<std::uint64_t> parse_immediate(std::string_view text) {
  if (text.empty()) return std::nullopt;
  const std::string_view prefix = text.substr(0, 2);
  if (prefix == "0f" || prefix == "0F" || prefix == "0d" || prefix == "0D") {
    const std::size_t digits = prefix[1] == 'f' || prefix[1] == 'F' ? 8 : 16;
    if (text.size() != 2 + digits) return std::nullopt;
    return parse_digits(text.substr(2), 16);
  }
  const bool negative = text.front() == '-';
  if (negative) text.remove_prefix(1);
  if (text.ends_with('U')) text.remove_suffix(1);
  int base = 10;
  if (text.starts_with("0x") || text.starts_with("0X")) base = 16;
  if (text.starts_with("0b") || text.starts_with("0B")) base = 2;
  if (base != 10) text.remove_prefix(2);
  auto value = parse_digits(text, base);
  if (value && negative) value = std::uint64_t{0} - *value;
  return value;
}

Declaration parse_declaration(std::string_view text) {
  Declaration declaration;
  const auto parts = words(text);
  int natural = 1;
  bool pointee = false;  // what follows .ptr tells of the memory that a parameter points to
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const std::string& word = parts[i];
    pointee |= word == ".ptr";
    if (is_storage_word(word)) continue;
    if (word == ".align" && i + 1 < parts.size()) {
      const int alignment = to_int(parts[++i]);
      if (!pointee) declaration.alignment = alignment;
    } else if (word.front() == '.') {
      natural = declaration.element_bytes = type_bytes(std::string_view(word).substr(1));
    } else {
      declaration.name += word;  // brackets may stand apart
    }
  }
  declaration.alignment = std::max(declaration.alignment, natural);
  const std::size_t bracket = declaration.name.find('[');
  for (std::size_t at = bracket; at < declaration.name.size();) {
    const std::size_t end = declaration.name.find(']', at);
    if (end == std::string::npos) throw Error("']' is missing");
    declaration.unsized |= end == at + 1;
    declaration.count *=
        end == at + 1 ? 0 : to_int(std::string_view(declaration.name).substr(at + 1, end - at - 1));
    at = end + 1;
  }
  declaration.name = declaration.name.substr(0, bracket);
  if (declaration.name.empty()) throw Error("a declaration without a name");
  return declaration;
}

}  // namespace lathe::ptx
