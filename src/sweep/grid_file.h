// A grid file as it stands: the options of all runs of a sweep, those that vary, and runs of their
// own. docs/formats.md says what may be in it.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "options/option_sources.h"

namespace lathe {

struct GridAxis {
  const OptionSpec* option;
  std::vector<Setting> values;  // at least one
};

struct GridFile {
  std::filesystem::path path;
  std::string sha256;          // of its bytes
  Level fixed;                 // what stands above the tables, but for what is the sweep's own
  std::vector<GridAxis> axes;  // [grid], in the order of the file
  std::vector<Level> runs;     // each [[run]], likewise
};

// Origins of settings are without the file's name: "[grid] lr". Throws Error(usage), naming the
// file, the option and what is wrong with it.
GridFile read_grid_file(const std::filesystem::path& path);

}  // namespace lathe
