#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <string_view>

#include "base/strict_json.h"
#include "lathe/commands.h"
#include "lathe/error.h"
#include "lathe/files.h"
#include "lathe/plot.h"
#include "run/run_files.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kTrain = 0, kVal = 1;

std::string metrics_file(const std::string& path) {
  return fs::is_directory(path) ? (fs::path(path) / "metrics.jsonl").string() : path;
}

// One line of metrics.jsonl. Other keys are other metrics. The training curve takes the resumes.
void read_line(std::string_view text, const std::string& source, std::vector<Curve>& curves) {
  constexpr const char* kKeys[] = {"train/loss", "val/loss"};
  const nlohmann::json line = parse_json(text, source, ExitCode::data);
  const auto fail = [&](const std::string& what) {
    throw Error(ExitCode::data, fmt::format("{}: {}", source, what));
  };
  if (!line.is_object()) fail("not a JSON object");
  if (!line.contains("step") || !line["step"].is_number_unsigned()) {
    fail("has no \"step\" that is a whole number");
  }
  if (line.contains("event") && line["event"] == "resume") {
    curves[kTrain].resumes.push_back(line["step"].get<double>());
  }
  for (const std::size_t which : {kTrain, kVal}) {
    const auto value = line.find(kKeys[which]);
    if (value == line.end()) continue;
    if (!value->is_number() && !value->is_null()) {
      fail(fmt::format("\"{}\" is {}, must be a number or null", kKeys[which],
                       quote(value->dump(-1, ' ', true, nlohmann::json::error_handler_t::ignore))));
    }
    curves[which].x.push_back(line["step"].get<double>());
    curves[which].y.push_back(value->is_null() ? std::numeric_limits<double>::quiet_NaN()
                                               : value->get<double>());
  }
}

std::ptrdiff_t count_finite(const Curve& curve) {
  return std::ranges::count_if(curve.y, [](double y) { return std::isfinite(y); });
}

// The floor that a run of the embedded stories wrote down when it ended.
std::optional<double> read_floor(const std::string& run) {
  const fs::path path = fs::path(run) / kResultFile;
  if (!fs::is_regular_file(path)) return std::nullopt;
  const nlohmann::ordered_json result = read_result(path);
  const auto floor = result.find("val_floor");
  if (floor == result.end() || !floor->is_number()) return std::nullopt;
  return floor->get<double>();
}

// "runs/first/" is called "first", unless that leaves two runs with one name.
std::vector<std::string> name_runs(const std::vector<std::string>& paths) {
  std::vector<std::string> names;
  for (const std::string& path : paths) {
    const fs::path plain = (fs::path(path) / "").parent_path();
    names.push_back(plain.filename().string());
  }
  for (const std::string& name : names) {
    if (std::ranges::count(names, name) > 1) return paths;
  }
  return names;
}

// The curves of one run among `runs`, coloured and named so that runs can be told apart.
std::vector<Curve> read_run(const std::string& path, const std::string& name, int run, int runs) {
  std::vector<Curve> curves = read_curves(path);
  for (Curve& curve : curves) {
    const auto skipped = static_cast<std::ptrdiff_t>(curve.y.size()) - count_finite(curve);
    if (skipped > 0) {
      fmt::print(stderr, "lathe: {}: {} of {} values of {} are not finite and are left out\n", path,
                 skipped, curve.y.size(), curve.name);
    }
    if (runs == 1) continue;
    curve.name = curve.mark == Curve::Mark::line ? name : name + ", validation";
    curve.colour = run;
  }
  if (std::ranges::all_of(curves, [](const Curve& c) { return count_finite(c) == 0; })) {
    throw Error(ExitCode::data, fmt::format("{}: holds no finite loss to draw; give the folder of "
                                            "a run that has made a step",
                                            metrics_file(path)));
  }
  return curves;
}

}  // namespace

std::vector<Curve> read_curves(const std::string& path) {
  const std::string file = metrics_file(path);
  const std::string text = read_file(file, ExitCode::data);
  std::vector<Curve> curves(2);
  curves[kTrain] = {.name = "training loss", .x = {}, .y = {}, .mark = Curve::Mark::line};
  curves[kVal] = {
      .name = "validation loss", .x = {}, .y = {}, .mark = Curve::Mark::points, .colour = 1};
  std::size_t number = 1;
  for (std::size_t begin = 0, end; begin < text.size(); begin = end + 1, ++number) {
    end = std::min(text.find('\n', begin), text.size());
    const std::string_view line = std::string_view(text).substr(begin, end - begin);
    const bool cut_short = end == text.size() && !nlohmann::json::accept(line);
    if (!cut_short) read_line(line, fmt::format("{} line {}", file, number), curves);
  }
  std::vector<double> resumes = std::move(curves[kTrain].resumes);
  std::erase_if(curves, [](const Curve& curve) { return curve.x.empty(); });
  if (!curves.empty()) curves.front().resumes = std::move(resumes);
  return curves;
}

int plot_command(const Options& options) {
  constexpr int kColumns = 80, kRows = 22;
  if (options.paths.empty()) {
    throw Error(ExitCode::usage, "plot: needs the folder of a run, such as runs/default");
  }
  const auto runs = static_cast<int>(options.paths.size());
  const std::vector<std::string> names = name_runs(options.paths);
  PlotSpec spec{.title = fmt::format("Loss of {}", fmt::join(names, ", ")),
                .x_label = "step",
                .y_label = "nats per token",
                .curves = {},
                .floor = std::nullopt,
                .floor_label = "floor of the stories' grammar"};
  for (int run = 0; run < runs; ++run) {
    const auto i = static_cast<std::size_t>(run);
    for (Curve& curve : read_run(options.paths[i], names[i], run, runs)) {
      spec.curves.push_back(std::move(curve));
    }
    if (const auto floor = read_floor(options.paths[i])) spec.floor = floor;
  }
  if (!options.svg.empty()) write_file_atomically(options.svg, plot_svg(spec));
  if (!options.html.empty()) write_file_atomically(options.html, plot_html(spec));
  fmt::print("{}", plot_terminal(spec, kColumns, kRows));
  for (const std::string& file : {options.svg, options.html}) {
    if (!file.empty()) fmt::print("wrote {}\n", file);
  }
  return 0;
}

}  // namespace lathe
