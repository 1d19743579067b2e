#include "print_facts.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "base/strict_json.h"

namespace lathe {
namespace {

// What is neither text, number nor list of such is shown as JSON.
std::string value_text(const Facts& value) {
  if (value.is_null()) return "none";
  if (value.is_boolean()) return value.get<bool>() ? "yes" : "no";
  if (value.is_number_float()) return fmt::format("{:.6g}", value.get<double>());
  if (value.is_string()) return printable(value.get<std::string>());
  if (!value.is_array()) {
    return value.dump(-1, ' ', /*ensure_ascii=*/true, Facts::error_handler_t::replace);
  }
  std::string list;
  for (const Facts& element : value) list += (list.empty() ? "" : ", ") + value_text(element);
  return list.empty() ? "none" : list;
}

std::string heading(std::string name) {
  std::replace(name.begin(), name.end(), '_', ' ');
  return printable(name);
}

std::vector<std::string> names_of(const Facts& object) {
  std::vector<std::string> names;
  for (const auto& [name, value] : object.items()) names.push_back(name);
  return names;
}

// Objects with the same names in the same order, which are its columns.
bool is_table(const Facts& value) {
  if (!value.is_array() || value.empty() || !value.front().is_object()) return false;
  const std::vector<std::string> columns = names_of(value.front());
  return !columns.empty() && std::ranges::all_of(value, [&](const Facts& row) {
    return row.is_object() && names_of(row) == columns;
  });
}

// The rows as lines under one heading; numbers to the right.
void add_table(const Facts& rows, const std::string& indent, std::string& text) {
  std::vector<std::vector<std::string>> lines(1);
  std::vector<bool> is_number;
  for (const auto& [name, value] : rows.front().items()) {
    lines[0].push_back(heading(name));
    is_number.push_back(value.is_number());
  }
  for (const Facts& row : rows) {
    lines.emplace_back();
    for (const Facts& value : row) lines.back().push_back(value_text(value));
  }
  std::vector<std::size_t> widths(lines[0].size());
  for (const auto& line : lines) {
    for (std::size_t i = 0; i < line.size(); ++i) widths[i] = std::max(widths[i], line[i].size());
  }
  for (const auto& line : lines) {
    text += indent;
    for (std::size_t i = 0; i < line.size(); ++i) {
      text += is_number[i] ? fmt::format("{:>{}}  ", line[i], widths[i])
                           : fmt::format("{:<{}}  ", line[i], widths[i]);
    }
    text.resize(text.find_last_not_of(' ') + 1);
    text += '\n';
  }
}

// Plain facts first, in two columns, then what has parts of its own.
void add_facts(const Facts& facts, const std::string& indent, std::string& text) {
  std::size_t width = 0;
  const auto is_plain = [](const Facts& value) { return !value.is_object() && !is_table(value); };
  for (const auto& [name, value] : facts.items()) {
    if (is_plain(value)) width = std::max(width, name.size());
  }
  for (const auto& [name, value] : facts.items()) {
    if (!is_plain(value)) continue;
    text += fmt::format("{}{:<{}}  {}\n", indent, heading(name), width, value_text(value));
  }
  for (const auto& [name, value] : facts.items()) {
    if (is_plain(value)) continue;
    text += fmt::format("{}{}\n", indent, heading(name));
    value.is_object() ? add_facts(value, indent + "  ", text)
                      : add_table(value, indent + "  ", text);
  }
}

}  // namespace

std::string facts_text(const Facts& facts) {
  std::string text;
  add_facts(facts, "", text);
  return text;
}

}  // namespace lathe
