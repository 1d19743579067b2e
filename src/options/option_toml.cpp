// Flat TOML files of options: toml++ reads, and since its writer neither keeps our order nor our
// doubles to the bit, a few lines here write.
#include "option_toml.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <iterator>

#include "lathe/error.h"
#include "option_sources.h"
#include "suggest.h"

namespace lathe {
namespace {

std::string read_file(const std::filesystem::path& file) {
  constexpr std::size_t kMostBytes = 1 << 20;
  std::error_code error;
  const auto status = std::filesystem::status(file, error);
  if (!std::filesystem::exists(status)) usage_error(fmt::format("{}: no such file", file.string()));
  if (std::filesystem::is_directory(status)) {
    usage_error(fmt::format("{}: must be a TOML file, not a folder", file.string()));
  }
  std::ifstream stream(file, std::ios::binary);
  std::string text(kMostBytes + 1, '\0');
  stream.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (stream.bad() || (!stream.eof() && stream.gcount() == 0)) {
    usage_error(fmt::format("{}: cannot be read", file.string()));
  }
  text.resize(static_cast<std::size_t>(stream.gcount()));
  if (text.size() > kMostBytes) {
    usage_error(fmt::format("{}: must be a TOML file of at most 1 MiB", file.string()));
  }
  return text;
}

// Where the string that begins there ends, of any of TOML's four kinds.
std::size_t string_end(std::string_view text, std::size_t begin) {
  const char mark = text[begin];
  const std::string three(3, mark);
  const bool is_long = text.substr(begin).starts_with(three);
  const std::string_view end = is_long ? std::string_view(three) : text.substr(begin, 1);
  std::size_t at = begin + end.size();
  while (at < text.size() && !text.substr(at).starts_with(end)) {
    if (!is_long && text[at] == '\n') return at;
    at += mark == '"' && text[at] == '\\' ? 2 : 1;
  }
  at += end.size();
  // A long one may end in two quotation marks of its own.
  for (int i = 0; is_long && i < 2 && at < text.size() && text[at] == mark; ++i) ++at;
  return std::min(at, text.size());
}

// toml++ makes a table of each part of a dotted name, and tables go by recursion: a name of many
// parts would overflow the stack.
void refuse_long_names(std::string_view text, const std::filesystem::path& file) {
  constexpr int kMostParts = 8;
  constexpr std::string_view kBetweenNames = "\n=,[]{}";
  int dots = 0;
  for (std::size_t at = 0; at < text.size();) {
    const char c = text[at];
    if (c == '"' || c == '\'') {
      at = string_end(text, at);
    } else if (c == '#') {
      at = std::min(text.find('\n', at), text.size());
    } else {
      ++at;
      if (kBetweenNames.find(c) != kBetweenNames.npos) dots = 0;
      if (c == '.' && ++dots >= kMostParts) {
        const auto line = 1 + std::ranges::count(text.substr(0, at), '\n');
        usage_error(fmt::format("{}:{}: a name of more than {} parts; an option's has one",
                                file.string(), line, kMostParts));
      }
    }
  }
}

std::string_view expected_type(const OptionSpec& option) {
  if (option.is_boolean()) return "true or false";
  if (option.is_number()) return "a number";
  return option.is_list() ? "a string or an array of strings" : "a string";
}

// The text of a value that has a right type for the option; nullopt for a wrong one.
std::optional<std::string> scalar_text(const OptionSpec& option, const toml::node& node) {
  if (option.is_boolean()) {
    if (const auto* value = node.as_boolean()) return value->get() ? "true" : "false";
    return std::nullopt;
  }
  if (const auto* value = node.as_string()) return value->get();
  if (!option.is_number()) return std::nullopt;
  if (const auto* value = node.as_integer()) return std::to_string(value->get());
  if (const auto* value = node.as_floating_point()) return shortest(value->get());
  return std::nullopt;
}

std::string toml_string(std::string_view text) {
  std::string result = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      result += fmt::format("\\{}", c);
    } else if (byte < 0x20 || byte == 0x7F) {
      result += fmt::format("\\u{:04X}", byte);
    } else {
      result += c;
    }
  }
  return result + '"';
}

std::string toml_value(const Options& options, const OptionSpec& option) {
  std::string text = value_text(options, option);
  if (option.is_number() || option.is_boolean()) return text;
  if (!option.is_list()) return toml_string(text);
  std::string list;
  for (const std::string& value :
       options.*std::get<std::vector<std::string> Options::*>(option.member)) {
    list += (list.empty() ? "" : ", ") + toml_string(value);
  }
  return fmt::format("[{}]", list);
}

}  // namespace

std::string_view type_name(const toml::node& node) {
  switch (node.type()) {
    case toml::node_type::table:
      return "a table";
    case toml::node_type::array:
      return "an array";
    case toml::node_type::string:
      return "a string";
    case toml::node_type::integer:
      return "an integer";
    case toml::node_type::floating_point:
      return "a float";
    case toml::node_type::boolean:
      return "a boolean";
    default:
      return "a date or time";
  }
}

std::vector<std::string> option_values(const OptionSpec& option, const toml::node& value,
                                       const std::string& origin) {
  const auto refuse = [&](const toml::node& wrong) {
    usage_error(
        fmt::format("{}: must be {}, not {}", origin, expected_type(option), type_name(wrong)));
  };
  const toml::array* array = option.is_list() ? value.as_array() : nullptr;
  std::vector<std::string> values;
  const auto take = [&](const toml::node& element) {
    const auto text = scalar_text(option, element);
    if (!text) refuse(element);
    values.push_back(*text);
  };
  if (array == nullptr) {
    take(value);
  } else {
    for (const toml::node& element : *array) take(element);
  }
  return values;
}

TomlFile read_toml_file(const std::filesystem::path& file) {
  TomlFile result{.text = read_file(file), .table = {}};
  refuse_long_names(result.text, file);
  try {
    result.table = toml::parse(result.text, file.string());
  } catch (const toml::parse_error& error) {
    usage_error(fmt::format("{}:{}: {}", file.string(), error.source().begin.line,
                            on_one_line(error.description())));
  }
  return result;
}

const OptionSpec& option_of_key(std::string_view key, const toml::node& value,
                                const std::string& origin,
                                std::span<const std::string_view> tables) {
  if (const OptionSpec* option = find_option(key)) return *option;
  std::vector<std::string> known(tables.begin(), tables.end());
  for (const OptionSpec& option : option_table()) known.emplace_back(option.name);
  const auto suggestion = closest(key, known);
  usage_error(fmt::format("{}: no such option{}", origin,
                          suggestion         ? fmt::format("; did you mean {}?", *suggestion)
                          : value.is_table() ? "; options stand outside of tables"
                                             : "; see lathe --help"));
}

Level read_toml(Command command, const std::filesystem::path& file) {
  const TomlFile read = read_toml_file(file);
  std::vector<std::string_view> tables;
  if (command == Command::sweep) tables = {kGridTable, kRunTable};
  Level level;
  for (const auto& [toml_key, node] : read.table) {
    const std::string key(toml_key.str());
    if (std::ranges::find(tables, key) != tables.end()) continue;
    const std::string origin = fmt::format("{}: {}", file.string(), on_one_line(key));
    const OptionSpec& option = option_of_key(key, node, origin, tables);
    if (option.member == OptionMember(&Options::config) && command != Command::sweep) {
      usage_error(fmt::format("{}: a file of options cannot name another", origin));
    }
    std::vector<std::string> values = option_values(option, node, origin);
    if (option.taken_by(command)) level.push_back({&option, std::move(values), origin});
  }
  return level;
}

std::string to_toml(const Options& options) {
  std::string result = "# Options of this run. `lathe train --config` takes them again.\n";
  OptionGroup group{};
  bool is_first = true;
  for (const OptionSpec& option : option_table()) {
    if (option.on_resume == OnResume::never_saved || value_text(options, option).empty()) continue;
    if (is_first || option.group != group) {
      result += fmt::format("\n# {}\n", title(option.group));
    }
    is_first = false;
    group = option.group;
    result += fmt::format("{} = {}\n", option.name, toml_value(options, option));
  }
  return result;
}

}  // namespace lathe
