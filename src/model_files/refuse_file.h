// How a file of a model is refused.
#pragma once

#include <fmt/format.h>

#include <filesystem>
#include <string>

#include "lathe/error.h"

namespace lathe {

[[noreturn]] inline void refuse(const std::filesystem::path& path, const std::string& message) {
  throw Error(ExitCode::checkpoint, fmt::format("{}: {}", path.string(), message));
}

}  // namespace lathe
