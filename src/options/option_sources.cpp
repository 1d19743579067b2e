#include "option_sources.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <optional>

#include "lathe/error.h"
#include "suggest.h"

namespace lathe {
namespace {

constexpr std::string_view kVariablePrefix = "LATHE_";

std::string variable_name(const OptionSpec& option) {
  std::string name(kVariablePrefix);
  for (const char c : option.name) {
    name += c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  }
  return name;
}

void add(Level& level, Setting setting) {
  const auto same = [&](const Setting& other) { return other.option == setting.option; };
  const auto before = std::ranges::find_if(level, same);
  if (!setting.option->is_list() || before == level.end()) {
    level.push_back(std::move(setting));
  } else {
    std::ranges::move(setting.values, std::back_inserter(before->values));
  }
}

// Reads the arguments of one command, left to right.
class ArgumentReader {
 public:
  ArgumentReader(const CommandSpec& command, std::span<const std::string> args)
      : command_(command), rest_(args) {}

  CommandLine read() {
    while (!rest_.empty()) {
      const std::string argument = take();
      if (argument == "--") {
        while (!rest_.empty()) read_path(take());
      } else if (argument.starts_with("--")) {
        read_option(std::string_view(argument).substr(2));
      } else if (argument.starts_with('-') && argument.size() > 1) {
        usage_error(
            fmt::format("{}: no such option; see lathe {} --help", argument, command_.name));
      } else {
        read_path(argument);
      }
    }
    return std::move(result_);
  }

 private:
  std::string take() {
    const std::string& first = rest_.front();
    rest_ = rest_.subspan(1);
    return first;
  }

  // "-1" is a value, if never a right one; "--lr" is the next option.
  bool value_follows() const { return !rest_.empty() && !rest_.front().starts_with("--"); }

  void read_path(const std::string& path) {
    if (command_.paths.empty()) {
      usage_error(
          fmt::format("{}: options begin with --; see lathe {} --help", path, command_.name));
    }
    if (path.empty()) usage_error(fmt::format("'': must be a {}, not empty", command_.paths));
    result_.paths.push_back(path);
  }

  void read_option(std::string_view text) {
    const std::size_t equals = text.find('=');
    const std::string_view name = text.substr(0, equals);
    std::optional<std::string> value;
    if (equals != std::string_view::npos) value = text.substr(equals + 1);

    if (const OptionSpec* option = find_taken(name)) {
      add(result_.settings, {option, values_of(*option, value), fmt::format("--{}", name)});
      return;
    }
    const OptionSpec* negated = name.starts_with("no-") ? find_taken(name.substr(3)) : nullptr;
    if (negated == nullptr || !negated->is_boolean()) unknown(name);
    if (value) usage_error(fmt::format("--{} {}: takes no value", name, *value));
    add(result_.settings, {negated, {"false"}, fmt::format("--{}", name)});
  }

  std::vector<std::string> values_of(const OptionSpec& option, std::optional<std::string> value) {
    if (value) return {*value};
    if (option.is_boolean()) return {"true"};
    if (!value_follows()) {
      if (option.value_is_optional()) return {""};
      usage_error(fmt::format("--{}: needs a value, {}", option.name,
                              option.choices.empty() ? option.value : option.choices));
    }
    std::vector<std::string> values = {take()};
    while (option.is_list() && value_follows()) values.push_back(take());
    return values;
  }

  const OptionSpec* find_taken(std::string_view name) const {
    const OptionSpec* option = find_option(name);
    return option != nullptr && option->taken_by(command_.id) ? option : nullptr;
  }

  [[noreturn]] void unknown(std::string_view name) const {
    std::string takers;
    std::vector<std::string> known;
    for (const OptionSpec& option : option_table()) {
      if (option.taken_by(command_.id)) known.push_back(fmt::format("{}", option.name));
      if (option.taken_by(command_.id) && option.is_boolean()) {
        known.push_back(fmt::format("no-{}", option.name));
      }
      if (option.name != name) continue;
      for (const CommandSpec& other : command_table()) {
        if (option.taken_by(other.id)) {
          takers += fmt::format("{}{}", takers.empty() ? "" : ", ", other.name);
        }
      }
    }
    if (!takers.empty()) {
      usage_error(fmt::format("--{}: lathe {} does not take it; it belongs to {}", name,
                              command_.name, takers));
    }
    const auto suggestion = closest(name, known);
    usage_error(fmt::format("--{}: no such option; {}", name,
                            suggestion ? fmt::format("did you mean --{}?", *suggestion)
                                       : fmt::format("see lathe {} --help", command_.name)));
  }

  const CommandSpec& command_;
  std::span<const std::string> rest_;
  CommandLine result_;
};

// Lists in one variable are separated as in PATH.
std::vector<std::string> split_list(std::string_view text) {
  std::vector<std::string> parts;
  while (true) {
    const std::size_t colon = text.find(':');
    parts.emplace_back(text.substr(0, colon));
    if (colon == std::string_view::npos) return parts;
    text.remove_prefix(colon + 1);
  }
}

}  // namespace

void usage_error(const std::string& message) {
  throw Error(ExitCode::usage, message);
}

CommandLine read_arguments(const CommandSpec& command, std::span<const std::string> args) {
  return ArgumentReader(command, args).read();
}

Environment process_environment() {
  Environment result;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const std::size_t equals = text.find('=');
    if (!text.starts_with(kVariablePrefix) || equals == std::string_view::npos) continue;
    result.emplace(text.substr(0, equals), text.substr(equals + 1));
  }
  return result;
}

Level read_environment(Command command, const Environment& environment) {
  std::vector<std::string> known;
  for (const OptionSpec& option : option_table()) known.push_back(variable_name(option));

  Level level;
  for (const auto& [name, value] : environment) {
    if (!name.starts_with(kVariablePrefix) || value.empty()) continue;
    const auto found = std::ranges::find(known, name);
    if (found != known.end()) {
      const OptionSpec& option = option_table()[static_cast<std::size_t>(found - known.begin())];
      if (!option.taken_by(command)) continue;
      add(level, {&option, option.is_list() ? split_list(value) : std::vector{value}, name});
      continue;
    }
    // Two slips of the pen in a long name; anything else belongs to someone else.
    const auto is_misspelling = [&name = name](const std::string& right) {
      return edit_distance(name, right) <= (right.size() < kVariablePrefix.size() + 6 ? 1 : 2);
    };
    const auto meant = std::ranges::find_if(known, is_misspelling);
    if (meant != known.end()) {
      usage_error(fmt::format("{}: no such option; did you mean {}?", name, *meant));
    }
  }
  return level;
}

Level read_preset(Command command, std::span<const PresetValue> preset) {
  Level level;
  for (const PresetValue& entry : preset) {
    const OptionSpec* option = find_option(entry.option);
    if (!option->taken_by(command)) continue;
    level.push_back({option, {std::string(entry.value)}, fmt::format("preset {}", entry.option)});
  }
  return level;
}

}  // namespace lathe
