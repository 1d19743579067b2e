// Which checkpoints of a run stay. Nothing goes before a newer one is durable, and a damaged one
// never takes the place of a whole one.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace lathe {

struct Retention {
  std::int64_t keep = 0;                       // the newest; 0: all
  std::int64_t keep_every = 0;                 // and those of steps that are multiples; 0: none
  std::optional<std::int64_t> best_step = {};  // and that of this step
};

struct RetainedCheckpoint {
  std::int64_t step;
  bool is_whole;
};

// Steps of the checkpoints to delete, out of `all` by ascending step.
std::vector<std::int64_t> steps_to_remove(const std::vector<RetainedCheckpoint>& all,
                                          const Retention& retention);

// Deletes them. Returns what could not be deleted, a line each.
std::vector<std::string> prune_checkpoints(const std::filesystem::path& run_folder,
                                           const Retention& retention);

// Points the symbolic link checkpoints/latest at a step, where the file system has such links: for
// people and scripts. Nothing in Lathe reads it.
void point_latest(const std::filesystem::path& run_folder, std::int64_t step);

// Gives checkpoints of steps above `step` names that no resume and no pruning looks at
// ("set-aside-0-step-00002000"): a run that goes on from an older checkpoint writes its own,
// and theirs stay for their owner to delete. Returns the new folders. Error(storage).
std::vector<std::filesystem::path> set_aside_checkpoints(const std::filesystem::path& run_folder,
                                                         std::int64_t step);

}  // namespace lathe
