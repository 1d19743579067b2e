// The calls that a program made on a file system, as tests/fault_shim/ recorded them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace lathe::test {

struct FileCall {
  std::int64_t number = 0;  // 0: not numbered
  std::int64_t result = 0;
  int error = 0;  // where the result is -1
  int descriptor = -1;
  std::int64_t flags = 0;
  std::int64_t offset = -1;
  std::string operation, path, other_path;
  std::string data;  // what a write wrote
};

std::vector<FileCall> read_trace(const std::filesystem::path& path);

}  // namespace lathe::test
