// JSON from files that may be damaged, foreign or hostile: duplicate keys and deep nesting are
// refused, and every failure is one line.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "lathe/error.h"

namespace lathe {

// Throws Error(code) whose message starts with `source`, a file's or line's name.
nlohmann::json parse_json(std::string_view text, const std::string& source, ExitCode code);

// A string of unknown content for an error message: quoted, ASCII, on one line, cut after 60 bytes.
std::string quote(std::string_view text);

// The same without quotation marks and uncut, for a terminal.
std::string printable(std::string_view text);

}  // namespace lathe
