// The front of the command line: which command, and the texts that describe it. All texts are made
// from the option and command tables.
#pragma once

#include <optional>
#include <span>
#include <string>

#include "lathe/options.h"

namespace lathe {

// The text that `args` ask for: --version, --help, `COMMAND --help`, `COMMAND --help-all`,
// `help [COMMAND]`, `help options --markdown`. nullopt: they ask for none.
std::optional<std::string> help_text(std::span<const std::string> args);

// The command that `args` begin with. Throws Error(usage) when there is none.
Command find_command(std::span<const std::string> args);

std::string main_help();
std::string command_help(Command command);  // under 50 lines of 100 columns
std::string options_help(Command command);  // one option after another, with its meaning
std::string options_markdown();             // the table in README.md

}  // namespace lathe
