// metrics.jsonl: drawn, described, also in words, and cut when a run goes on; and main.log, cut
// with it.
#include <cstddef>
#include <cstdint>
#include <optional>

#include "commands/describe.h"
#include "commands/print_facts.h"
#include "commands/run_table.h"
#include "fuzz_file.h"
#include "lathe/plot.h"
#include "lathe/run_folder.h"

namespace lathe {
namespace {

void draw(const std::filesystem::path& path) {
  const PlotSpec spec{.title = "loss",
                      .x_label = "step",
                      .y_label = "nats",
                      .curves = read_curves(path.string()),
                      .floor = std::nullopt,
                      .floor_label = ""};
  constexpr int kColumns = 80, kRows = 20;
  plot_terminal(spec, kColumns, kRows);
  plot_svg(spec);
  plot_html(spec);
}

void list(const std::filesystem::path& path) {
  const std::vector<RunSummary> runs = {summarize_run(path.parent_path())};
  runs_text(runs, {});
  runs_csv(runs, {});
}

void cut(const std::filesystem::path& path) {
  constexpr std::int64_t kResumedStep = 2;
  RunFolder resumed({.folder = path.parent_path(),
                     .resumed = ResumedStep{.step = kResumedStep, .is_validated = true},
                     .config = "",
                     .quiet = true,
                     .llmc_log = false,
                     .tensorboard = true},
                    RunFolder::lock(path.parent_path()));
  resumed.resumed(kResumedStep);
}

}  // namespace
}  // namespace lathe

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const lathe::fuzz::FuzzFile file("metrics.jsonl", {data, size});
  file.check(lathe::draw);
  file.check([](const auto& path) { lathe::facts_text(lathe::describe_metrics(path)); });
  file.check(lathe::list);
  const lathe::fuzz::FuzzFile llmc_log("main.log", {data, size});
  file.check(lathe::cut);
  return 0;
}
