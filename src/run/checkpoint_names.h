// Names in RUN/checkpoints. Only step-00001000 is a checkpoint; what is being written or deleted
// has a name that no reader looks at.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "lathe/error.h"

namespace lathe {

inline constexpr const char* kCheckpointsFolder = "checkpoints";

std::string step_name(std::int64_t step);
std::optional<std::int64_t> step_of_name(const std::filesystem::path& folder);  // nullopt: another

// Beside a checkpoint: while it is written, and while it is deleted.
std::filesystem::path partial_name(const std::filesystem::path& checkpoint);
std::filesystem::path removed_name(const std::filesystem::path& checkpoint);
bool is_leftover(const std::filesystem::path& path);  // one of these two

// Entries of a folder; none when it does not exist. Error(`code`).
std::vector<std::filesystem::path> entries(const std::filesystem::path& folder,
                                           ExitCode code = ExitCode::checkpoint);

// Throws Error(storage): "PATH: cannot ACTION: ...".
[[noreturn]] void fail_storage(const std::filesystem::path& path, const char* action,
                               const std::error_code& why);

}  // namespace lathe
