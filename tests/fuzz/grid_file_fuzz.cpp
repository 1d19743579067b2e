// Grid files of sweeps: the command line that a run is started with must give the options that were
// checked.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>

#include "fuzz_file.h"
#include "lathe/options.h"
#include "sweep/sweep_runs.h"

namespace lathe {
namespace {

void make_runs(const std::filesystem::path& path) {
  Options sweep = default_options();
  sweep.out = (path.parent_path() / "runs").string();
  const std::vector<SweepRun> runs = make_sweep_runs(read_grid_file(path), sweep, {});
  constexpr std::size_t kMost = 20;  // that are looked at
  for (const SweepRun& run : std::span(runs).first(std::min(runs.size(), kMost))) {
    const Options given = parse_options(Command::train, std::span(run.arguments).subspan(1), {});
    if (given.out == run.folder && to_toml(given) == to_toml(run.options)) continue;
    throw std::logic_error("a run's command line gives other options: " + to_toml(given));
  }
}

}  // namespace
}  // namespace lathe

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const lathe::fuzz::FuzzFile file("grid.toml", {data, size});
  file.check(lathe::make_runs);
  return 0;
}
