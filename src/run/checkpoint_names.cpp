#include "checkpoint_names.h"

#include <fmt/format.h>

#include <charconv>
#include <string_view>

#include "lathe/error.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kStepPrefix = "step-";
constexpr std::string_view kPartialPrefix = ".partial-";
constexpr std::string_view kRemovedPrefix = ".removed-";

fs::path with_prefix(const fs::path& checkpoint, std::string_view prefix) {
  return checkpoint.parent_path() / fmt::format("{}{}", prefix, checkpoint.filename().string());
}

}  // namespace

std::string step_name(std::int64_t step) {
  return fmt::format("{}{:08}", kStepPrefix, step);
}

std::optional<std::int64_t> step_of_name(const fs::path& folder) {
  const std::string name = folder.filename().string();
  std::int64_t step = 0;
  if (!name.starts_with(kStepPrefix)) return std::nullopt;
  std::from_chars(name.data() + kStepPrefix.size(), name.data() + name.size(), step);
  if (name != step_name(step)) return std::nullopt;
  return step;
}

fs::path partial_name(const fs::path& checkpoint) {
  return with_prefix(checkpoint, kPartialPrefix);
}

fs::path removed_name(const fs::path& checkpoint) {
  return with_prefix(checkpoint, kRemovedPrefix);
}

bool is_leftover(const fs::path& path) {
  const std::string name = path.filename().string();
  return name.starts_with(kPartialPrefix) || name.starts_with(kRemovedPrefix);
}

std::vector<fs::path> entries(const fs::path& folder, ExitCode code) {
  std::vector<fs::path> paths;
  std::error_code why;
  fs::directory_iterator at(folder, why);
  for (; !why && at != fs::directory_iterator(); at.increment(why)) paths.push_back(at->path());
  if (why && why != std::errc::no_such_file_or_directory && why != std::errc::not_a_directory) {
    throw Error(code, fmt::format("{}: cannot list: {}", folder.string(), why.message()));
  }
  return paths;
}

void fail_storage(const fs::path& path, const char* action, const std::error_code& why) {
  throw Error(ExitCode::storage,
              fmt::format("{}: cannot {}: {}", path.string(), action, why.message()));
}

}  // namespace lathe
