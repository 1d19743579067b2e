#include "file_trace.h"

#include <array>
#include <sstream>
#include <stdexcept>

#include "support/temp_dir.h"

namespace lathe::test {
namespace {

FileCall parse_line(const std::string& line) {
  std::istringstream fields(line);
  std::array<std::int64_t, 7> numbers{};
  for (std::int64_t& number : numbers) {
    if (!(fields >> number)) throw std::runtime_error("trace: a line of other fields: " + line);
  }
  FileCall call{.number = numbers[0],
                .result = numbers[1],
                .error = static_cast<int>(numbers[2]),
                .descriptor = static_cast<int>(numbers[3]),
                .flags = numbers[4],
                .offset = numbers[5],
                .operation = "",
                .path = "",
                .other_path = "",
                .data = std::string(static_cast<std::size_t>(numbers[6]), '\0')};
  fields.ignore();
  std::getline(fields, call.operation, '\t');
  std::getline(fields, call.path, '\t');
  std::getline(fields, call.other_path);
  return call;
}

}  // namespace

std::vector<FileCall> read_trace(const std::filesystem::path& path) {
  const std::string text = read_file(path);
  std::vector<FileCall> calls;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = text.find('\n', at);
    FileCall call = parse_line(text.substr(at, end - at));
    at = end + 1 + call.data.size();
    if (end == text.npos || at > text.size()) throw std::runtime_error("trace: is cut short");
    call.data = text.substr(end + 1, call.data.size());
    calls.push_back(std::move(call));
  }
  return calls;
}

}  // namespace lathe::test
