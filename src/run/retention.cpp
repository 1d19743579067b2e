#include "retention.h"

#include <fmt/format.h>

#include <algorithm>
#include <system_error>

#include "checkpoint_names.h"
#include "checkpoint_state.h"
#include "lathe/checkpoint.h"
#include "lathe/error.h"
#include "lathe/files.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

// As far as it can be seen without reading the tensors.
bool looks_whole(const fs::path& checkpoint) {
  try {
    const CheckpointState state = read_state(checkpoint / kStateFile);
    return std::ranges::all_of(state.files, [&](const auto& file) {
      std::error_code ignored;
      return fs::file_size(checkpoint / file.first, ignored) == bytes_of(file.second);
    });
  } catch (const Error&) {
    return false;
  }
}

}  // namespace

std::vector<std::int64_t> steps_to_remove(const std::vector<RetainedCheckpoint>& all,
                                          const Retention& retention) {
  std::int64_t whole = 0;
  auto oldest = all.rbegin();  // of the newest that are to be kept
  while (oldest != all.rend() && (whole += oldest->is_whole ? 1 : 0) < retention.keep) ++oldest;
  if (retention.keep == 0 || oldest == all.rend()) return {};
  std::vector<std::int64_t> steps;
  for (const auto& [step, is_whole] : all) {
    const bool stays = step >= oldest->step || step == retention.best_step ||
                       (retention.keep_every > 0 && step % retention.keep_every == 0);
    if (!stays) steps.push_back(step);
  }
  return steps;
}

std::vector<std::string> prune_checkpoints(const fs::path& run_folder, const Retention& retention) {
  std::vector<RetainedCheckpoint> all;
  for (const fs::path& path : list_checkpoints(run_folder)) {
    all.push_back({.step = *step_of_name(path), .is_whole = looks_whole(path)});
  }
  const fs::path checkpoints = run_folder / kCheckpointsFolder;
  std::vector<std::string> remarks;
  const auto remark = [&](const fs::path& path, const std::error_code& why) {
    if (why) remarks.push_back(fmt::format("{}: cannot remove: {}", path.string(), why.message()));
  };
  std::vector<fs::path> removed;
  for (const std::int64_t step : steps_to_remove(all, retention)) {
    const fs::path path = checkpoints / step_name(step);
    std::error_code why;
    fs::rename(path, removed_name(path), why);
    remark(path, why);
    if (!why) removed.push_back(removed_name(path));
  }
  if (removed.empty()) return remarks;
  // Half a checkpoint must not be seen, after a power cut either: that they have given up their
  // names is on the disk before the first file goes.
  sync_folder(checkpoints);
  for (const fs::path& path : removed) {
    std::error_code why;
    fs::remove_all(path, why);
    remark(path, why);
  }
  return remarks;
}

void point_latest(const fs::path& run_folder, std::int64_t step) {
  const fs::path link = run_folder / kCheckpointsFolder / "latest";
  const fs::path partial = run_folder / kCheckpointsFolder / ".latest.partial";
  std::error_code ignored;
  fs::remove(partial, ignored);
  fs::create_directory_symlink(step_name(step), partial, ignored);
  fs::rename(partial, link, ignored);
  fs::remove(partial, ignored);
}

std::vector<fs::path> set_aside_checkpoints(const fs::path& run_folder, std::int64_t step) {
  std::vector<fs::path> renamed;
  for (const fs::path& path : list_checkpoints(run_folder)) {
    if (*step_of_name(path) <= step) continue;
    fs::path to;
    for (int i = 0; to.empty() || fs::exists(to); ++i) {
      to = path.parent_path() / fmt::format("set-aside-{}-{}", i, path.filename().string());
    }
    std::error_code why;
    fs::rename(path, to, why);
    if (why) fail_storage(path, "rename", why);
    renamed.push_back(to);
  }
  if (!renamed.empty()) sync_folder(run_folder / kCheckpointsFolder);
  return renamed;
}

}  // namespace lathe
