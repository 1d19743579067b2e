// TOML files of options as toml++ reads them: what a flat file and a sweep's grid file have in
// common.
#pragma once

#include <toml++/toml.h>

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "option_table.h"

namespace lathe {

// The tables of a grid file, beside the options that stand above them.
inline constexpr std::string_view kGridTable = "grid";
inline constexpr std::string_view kRunTable = "run";

struct TomlFile {
  std::string text;
  toml::table table;
};

// Throws Error(usage) that names the file and, where it is no TOML, the line.
TomlFile read_toml_file(const std::filesystem::path& file);

// The option of a key that stands at `origin`; `tables` are names of tables that may stand there
// too. Throws Error(usage) for a key that is no option, with the one that comes close.
const OptionSpec& option_of_key(std::string_view key, const toml::node& value,
                                const std::string& origin,
                                std::span<const std::string_view> tables = {});

// The texts of a value. Throws Error(usage) for a wrong type, naming `origin`.
std::vector<std::string> option_values(const OptionSpec& option, const toml::node& value,
                                       const std::string& origin);

std::string_view type_name(const toml::node& node);  // "a string"

}  // namespace lathe
