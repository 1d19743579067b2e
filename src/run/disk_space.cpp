#include "disk_space.h"

#include <sys/statvfs.h>

#include <system_error>

namespace lathe {

namespace fs = std::filesystem;

std::optional<std::uint64_t> free_bytes(const fs::path& path) {
  std::error_code ignored;
  fs::path existing = fs::absolute(path, ignored);
  while (!fs::exists(existing, ignored) && existing.has_relative_path()) {
    existing = existing.parent_path();
  }
  struct statvfs found {};
  if (::statvfs(existing.c_str(), &found) != 0 || found.f_blocks == 0) return std::nullopt;
  return std::uint64_t{found.f_bavail} * found.f_frsize;
}

std::uint64_t bytes_in(const fs::path& folder) {
  std::uint64_t bytes = 0;
  std::error_code why;
  fs::recursive_directory_iterator at(folder, why);
  for (; !why && at != fs::recursive_directory_iterator(); at.increment(why)) {
    std::error_code ignored;
    if (at->is_regular_file(ignored)) bytes += at->file_size(ignored);
  }
  return bytes;
}

}  // namespace lathe
