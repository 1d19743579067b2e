// Where settings come from: command line, environment, TOML file, preset. Each source becomes a
// Level, whose values are still the text that the user wrote; apply() converts and checks them.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "option_table.h"

namespace lathe {

struct Setting {
  const OptionSpec* option;
  std::vector<std::string> values;  // one, but for lists
  std::string origin;               // for messages: "--lr", "LATHE_LR", "run.toml: lr"
};

// In the order given; for an option that stands twice the last one counts, a list is gathered.
using Level = std::vector<Setting>;

struct CommandLine {
  Level settings;
  std::vector<std::string> paths;  // arguments without dashes
};

CommandLine read_arguments(const CommandSpec& command, std::span<const std::string> args);

// Variables of options that `command` takes. LATHE_* that is nearly an option's name is an error.
Level read_environment(Command command, const Environment& environment);

// A flat file of options; those that `command` does not take are checked by name only.
Level read_toml(Command command, const std::filesystem::path& file);

Level read_preset(Command command, std::span<const PresetValue> preset);

// One level that says what all of them say together, the last one counting.
Level joined(std::span<const Level> levels);

// What parse_options does with its sources once they are read, from the lowest level to the
// highest.
Options merge_levels(Command command, std::vector<Level> levels,
                     const std::vector<std::string>& paths);

// Converts and stores one setting. Throws Error(usage) naming origin, value and what is allowed.
void apply(Options& options, const Setting& setting);

[[noreturn]] void usage_error(const std::string& message);

// A name or value that the user wrote, for a message: on one line and, when it is long, cut.
std::string on_one_line(std::string_view text);

// The value as on a command line, lists joined by blanks; "" when it is not set.
std::string value_text(const Options& options, const OptionSpec& option);

}  // namespace lathe
