// What a fuzz target does with its bytes: they become a file, a reader reads it, and either it is
// read or it is refused as Lathe refuses: with an Error whose text is one line that names the file.
// Anything else that is thrown comes out of the target, and is a defect of the reader.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string_view>

namespace lathe::fuzz {

class FuzzFile {
 public:
  // A file of that name, in the one folder that this process has for them.
  FuzzFile(std::string_view name, std::span<const std::uint8_t> bytes);

  const std::filesystem::path& path() const { return path_; }

  // Calls read(path()). Throws std::logic_error for an Error that does not say enough.
  void check(const std::function<void(const std::filesystem::path&)>& read) const;

 private:
  std::filesystem::path path_;
};

}  // namespace lathe::fuzz
