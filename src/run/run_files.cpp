#include "run_files.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/strict_json.h"
#include "lathe/error.h"
#include "lathe/files.h"

namespace lathe {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

std::string read_at_most(const fs::path& path, std::uint64_t bytes) {
  const std::uint64_t size = InputFile(path, ExitCode::data).size();
  if (size > bytes) {
    throw Error(ExitCode::data,
                fmt::format("{}: is of {} bytes; at most {} are read of such a file", path.string(),
                            size, bytes));
  }
  return read_file(path, ExitCode::data);
}

ordered_json read_result(const fs::path& path) {
  constexpr std::uint64_t kMostBytes = 1 << 20;
  const std::string text = read_at_most(path, kMostBytes);
  if (!parse_json(text, path.string(), ExitCode::data).is_object()) {
    throw Error(ExitCode::data, path.string() + ": is not a JSON object");
  }
  return ordered_json::parse(text);
}

std::string end_reason(const fs::path& run_folder) {
  try {
    const fs::path path = run_folder / kResultFile;
    const ordered_json result = fs::exists(path) ? read_result(path) : ordered_json::object();
    if (result.value("status", ordered_json()) != "finished") return "";
    const ordered_json reason = result.value("end_reason", ordered_json());
    return reason.is_string() ? reason.get<std::string>() : "steps";  // older versions say none
  } catch (const Error&) {
    return "";
  }
}

}  // namespace lathe
