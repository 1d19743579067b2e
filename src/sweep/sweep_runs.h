// The runs of a sweep: what a grid file, the environment and the sweep's own options make of each.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "grid_file.h"

namespace lathe {

struct SweepRun {
  std::string name;
  std::filesystem::path folder;
  Level varied;                        // by which it is told from the others
  std::vector<std::string> arguments;  // of lathe, without --threads where nothing gives it
  Options options;                     // as lathe train has them
};

inline constexpr const char* kSweepFile = "sweep.json";

// Beside the run's folder.
std::filesystem::path log_of(const SweepRun& run);

// Those of the grid, the last option varying fastest, then each [[run]]. All that a run would
// refuse without looking at data is refused here: Error, naming the file, the run and the option.
// Reads the config.toml of runs that are there, and changes nothing.
std::vector<SweepRun> make_sweep_runs(const GridFile& grid, const Options& sweep,
                                      const Environment& environment);

// With its type; null where it has none.
nlohmann::ordered_json value_in(const SweepRun& run, const OptionSpec& option);

// The values of its varied options by name.
nlohmann::ordered_json varied_values(const SweepRun& run);
std::string varied_text(const SweepRun& run);  // "--lr 0.001 --seed 1"

}  // namespace lathe
