// What is known of a sweep and of each of its runs, and sweep.json, where it stands for others.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "run/run_summary.h"
#include "sweep_runs.h"

namespace lathe {

struct RunRecord {
  const SweepRun* run;
  RunSummary summary;  // of its folder; no facts where there is no run yet
  // waiting | running | finished | stopped | killed | failed | unknown: as `lathe ls` has it, and
  // waiting for a run without a folder
  std::string status;
  std::optional<int> exit_code;  // of its last process
  std::string error;             // the line with which that failed
  std::int64_t attempts = 0;     // of this sweep
};

// As its folder has it.
RunRecord look_at(const SweepRun& run);

// Reads its folder again, once its process has ended with `exit_code`.
void look_again(RunRecord& record);

// Whether a sweep is to start or go on with it: not where it has finished its length, nor where it
// has diverged, as that it would do again.
bool is_due(const RunRecord& record);

struct SweepRecord {
  std::filesystem::path folder, grid_file;
  std::string grid_sha256, started;
  std::int64_t jobs = 1, retries = 0;
  std::string status;            // running | finished | stopped | failed
  std::optional<int> exit_code;  // once it has ended
  std::vector<RunRecord> runs;
  std::vector<std::string> others;  // runs of earlier sweeps that the grid no longer has
};

// The names of the runs that the folder's sweep.json knows, that are there and not among `runs`.
std::vector<std::string> other_runs(const std::filesystem::path& folder,
                                    const std::vector<SweepRun>& runs);

std::string sweep_json(const SweepRecord& sweep);

}  // namespace lathe
