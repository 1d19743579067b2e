// A folder of its own for each test, gone when the test is.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace lathe::test {

class TempDir {
 public:
  TempDir();
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::string operator/(std::string_view name) const { return (path_ / name).string(); }

  // Writes `bytes` to the file `name` in the folder, making folders on the way; returns its path.
  std::string write(std::string_view name, std::string_view bytes) const;

 private:
  std::filesystem::path path_;
};

// The bytes of a file; throws when it cannot be read.
std::string read_file(const std::filesystem::path& path);

}  // namespace lathe::test
