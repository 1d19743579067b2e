#include "fuzz_file.h"

#include <algorithm>
#include <fstream>
#include <stdexcept>
#include <string>

#include "lathe/error.h"
#include "support/temp_dir.h"

namespace lathe::fuzz {
namespace {

// Nothing that moves a terminal's cursor, and no file's whole content.
bool is_one_line(std::string_view text) {
  constexpr std::size_t kLongest = 1000;
  return !text.empty() && text.size() <= kLongest &&
         std::ranges::none_of(text, [](unsigned char c) { return c < 0x20 || c == 0x7F; });
}

const test::TempDir& folder() {
  static const test::TempDir only;
  return only;
}

}  // namespace

FuzzFile::FuzzFile(std::string_view name, std::span<const std::uint8_t> bytes)
    : path_(folder().write(name, {reinterpret_cast<const char*>(bytes.data()), bytes.size()})) {}

void FuzzFile::check(const std::function<void(const std::filesystem::path&)>& read) const {
  try {
    read(path_);
  } catch (const Error& error) {
    const std::string text = error.what();
    if (!is_one_line(text))
      throw std::logic_error("an Error that is not one printable line: " + text);
    if (text.find(path_.string()) == std::string::npos) {
      throw std::logic_error("an Error that does not name the file: " + text);
    }
  }
}

}  // namespace lathe::fuzz
