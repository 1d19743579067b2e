// What a run's folder is after the power failed at any call of its trace, and whether the run could
// go on from it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "file_trace.h"
#include "model_disk.h"

namespace lathe::test {

struct PowerLossSpec {
  std::filesystem::path root;  // what the trace is below of; the run is in root/run
  std::int64_t states;         // distinct ones to check
  std::uint64_t seed;
  std::filesystem::path scratch;  // where they are built
  std::filesystem::path samples;  // gets some of them, as 0/run, 1/run, ...
  std::int64_t sample_count;
};

struct PowerLossReport {
  std::int64_t prefixes = 0;                     // of the trace, all of which were met
  std::int64_t checked = 0, passed = 0;          // states after the first durable checkpoint
  std::int64_t before_checkpoint = 0;            // states before that, checked for damage alone
  std::map<std::string, std::int64_t> problems;  // what failed, and how often
};

// A state passes when the newest checkpoint that Lathe finds there is of the last durable step or a
// later one, no checkpoint that Lathe takes for whole differs from one that the run has made, and
// no checkpoint's name stands on half of one, though Lathe would see that it is.
PowerLossReport check_power_loss(const std::vector<FileCall>& trace, const PowerLossSpec& spec);

}  // namespace lathe::test
