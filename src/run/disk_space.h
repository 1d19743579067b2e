// Room on the file system that a path is on.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

namespace lathe {

// Bytes that this user may still write where `path` is, or will be; nullopt where the file system
// does not say.
std::optional<std::uint64_t> free_bytes(const std::filesystem::path& path);

// Bytes of all files in a folder; 0 when it does not exist.
std::uint64_t bytes_in(const std::filesystem::path& folder);

}  // namespace lathe
