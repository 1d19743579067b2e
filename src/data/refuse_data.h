// How data are refused: "FILE: what is wrong with it".
#pragma once

#include <fmt/format.h>

#include <string>
#include <utility>

#include "lathe/error.h"

namespace lathe {

// `reason` is said as it is, whatever braces it has.
[[noreturn]] inline void refuse(const std::string& source, const std::string& reason) {
  throw Error(ExitCode::data, fmt::format("{}: {}", source, reason));
}

template <class... Args>
[[noreturn]] void refuse(const std::string& source, fmt::format_string<Args...> format,
                         Args&&... args) {
  refuse(source, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace lathe
