#include "sweep_runs.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

#include "lathe/checkpoint.h"
#include "lathe/cuda.h"
#include "lathe/error.h"
#include "lathe/model_files.h"
#include "lathe/run_folder.h"
#include "run/run_summary.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMostRuns = 10'000;

// The grid's points, each as the settings that make it.
std::vector<Level> points_of(const GridFile& grid) {
  std::vector<Level> points;
  if (!grid.axes.empty()) points.emplace_back();
  for (const GridAxis& axis : grid.axes) {
    std::vector<Level> longer;
    for (const Level& point : points) {
      for (const Setting& value : axis.values) {
        longer.push_back(point);
        longer.back().push_back(value);
      }
      if (longer.size() + grid.runs.size() <= kMostRuns) continue;
      throw Error(ExitCode::usage,
                  fmt::format("{}: [grid] makes more than {} runs; a sweep has at most that",
                              grid.path.string(), kMostRuns));
    }
    points = std::move(longer);
  }
  return points;
}

bool is_name(const Setting& setting) {
  return setting.option->member == OptionMember(&Options::name);
}

// "lr{lr}-seed{seed}". A name that ends in a digit is kept apart from its value.
std::string default_template(const Level& varied) {
  std::string result;
  for (const Setting& setting : varied) {
    const std::string_view name = setting.option->name;
    const bool ends_in_digit = name.back() >= '0' && name.back() <= '9';
    result += fmt::format("{}{}{}{{{}}}", result.empty() ? "" : "-", name, ends_in_digit ? "_" : "",
                          name);
  }
  return result;
}

// "run 3 (lr 0.1, seed 2)": for messages, of a run that may have no name yet.
std::string label(std::size_t number, const Level& varied) {
  std::string values;
  for (const Setting& setting : varied) {
    std::string text;
    for (const std::string& value : setting.values) text += fmt::format(" {}", on_one_line(value));
    values += fmt::format("{}{}{}", values.empty() ? "" : ", ", setting.option->name, text);
  }
  return values.empty() ? fmt::format("run {}", number)
                        : fmt::format("run {} ({})", number, values);
}

// As --name=value, which holds for every kind of option.
std::vector<std::string> arguments_of(const Level& level) {
  std::vector<std::string> arguments;
  for (const Setting& setting : level) {
    for (const std::string& value : setting.values) {
      arguments.push_back(fmt::format("--{}={}", setting.option->name, value));
    }
  }
  return arguments;
}

// In the order in which lathe train looks at them.
void check_without_data(Options options) {
  RunFolder::check(options.out, /*overwrite=*/false, /*resumes=*/true);
  if (list_checkpoints(options.out).empty()) open_initial_model(options);
  resolve(options);
  const std::string reason = options.device == "cuda" ? why_no_gpu() : "";
  if (!reason.empty()) {
    throw Error(ExitCode::usage, fmt::format("--device cuda: {}; must be auto or cpu", reason));
  }
}

class RunMaker {
 public:
  RunMaker(const GridFile& grid, const Options& sweep, const Environment& environment)
      : grid_(grid), sweep_(sweep) {
    Level from_environment = read_environment(Command::train, environment);
    std::erase_if(from_environment,
                  [](const Setting& setting) { return setting.option->taken_by(Command::sweep); });
    fixed_ = joined(std::vector<Level>{grid.fixed, from_environment});
    for (const auto* name : {kSweepFile, "token-cache"}) taken_[name] = "the sweep itself";
  }

  SweepRun make(const Level& own, std::size_t number) {
    SweepRun run;
    std::ranges::remove_copy_if(own, std::back_inserter(run.varied), is_name);
    const std::string who = label(number, run.varied);
    try {
      const Level said = joined(std::vector<Level>{fixed_, run.varied});
      const Level place = place_of(own, run.varied);
      run.options = merge_levels(Command::train, {said, place}, {});
      run.folder = run.options.out;
      run.name = run.folder.filename().string();
      run.arguments = {"train", fmt::format("--out={}", run.options.out), "--resume=auto",
                       "--quiet"};
      std::ranges::move(arguments_of(said), std::back_inserter(run.arguments));
      check_without_data(run.options);
      take_names(run, who);
    } catch (const Error& error) {
      throw Error(error.code(), fmt::format("{}: {}: {}", grid_.path.string(), who, error.what()));
    }
    return run;
  }

 private:
  Level place_of(const Level& own, const Level& varied) const {
    std::string name = sweep_.name.empty() ? default_template(varied) : sweep_.name;
    const auto own_name = std::ranges::find_if(own, is_name);
    if (own_name != own.end()) name = own_name->values.front();
    if (name.empty()) {
      throw Error(ExitCode::usage, "has no option to be named by; give name = \"...\"");
    }
    return {{find_option("out"), {sweep_.out}, "--out"},
            {find_option("name"), {name}, "--name"},
            {find_option("resume"), {"auto"}, "--resume"},
            {find_option("quiet"), {"true"}, "--quiet"}};
  }

  void take_names(const SweepRun& run, const std::string& who) {
    for (const std::string& name : {run.name, log_of(run).filename().string()}) {
      const auto [other, is_new] = taken_.try_emplace(name, who);
      if (is_new) continue;
      throw Error(
          ExitCode::usage,
          fmt::format("would write to {}, as {} does; put what tells them apart into --name",
                      (fs::path(sweep_.out) / name).string(), other->second));
    }
  }

  const GridFile& grid_;
  const Options& sweep_;
  Level fixed_;
  std::map<std::string, std::string> taken_;  // names in the sweep's folder, and by whom
};

}  // namespace

fs::path log_of(const SweepRun& run) {
  return fs::path(run.folder.string() + ".log");
}

std::vector<SweepRun> make_sweep_runs(const GridFile& grid, const Options& sweep,
                                      const Environment& environment) {
  RunMaker maker(grid, sweep, environment);
  std::vector<SweepRun> runs;
  for (const Level& point : points_of(grid)) runs.push_back(maker.make(point, runs.size() + 1));
  for (const Level& own : grid.runs) runs.push_back(maker.make(own, runs.size() + 1));
  return runs;
}

nlohmann::ordered_json value_in(const SweepRun& run, const OptionSpec& option) {
  if (option.is_list()) {
    return run.options.*std::get<std::vector<std::string> Options::*>(option.member);
  }
  const std::string text = value_text(run.options, option);
  return text.empty() ? nlohmann::ordered_json(nullptr) : option_value({&option, {text}, ""});
}

nlohmann::ordered_json varied_values(const SweepRun& run) {
  nlohmann::ordered_json values = nlohmann::ordered_json::object();
  for (const Setting& setting : run.varied) {
    values[std::string(setting.option->name)] = value_in(run, *setting.option);
  }
  return values;
}

std::string varied_text(const SweepRun& run) {
  std::string text;
  for (const Setting& setting : run.varied) {
    text += fmt::format("{}--{} {}", text.empty() ? "" : " ", setting.option->name,
                        on_one_line(value_text(run.options, *setting.option)));
  }
  return text;
}

}  // namespace lathe
