#include "run_summary.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>

#include "base/strict_json.h"
#include "lathe/error.h"
#include "lathe/folder_lock.h"
#include "run_files.h"
#include "session_facts.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using nlohmann::ordered_json;

// In the order of the option table, where what matters more comes earlier.
ordered_json read_options(const fs::path& config) {
  const Level settings = read_toml(Command::train, config);
  ordered_json options = ordered_json::object();
  for (const OptionSpec& option : option_table()) {
    const auto setting = std::ranges::find(settings, &option, &Setting::option);
    if (setting != settings.end()) options[std::string(option.name)] = option_value(*setting);
  }
  return options;
}

ordered_json at(const ordered_json& object, const char* key) {
  const auto found = object.find(key);
  return found == object.end() ? ordered_json(nullptr) : *found;
}

// `running` is what a run says until it can say something else. Whether that is still so the lock
// knows; that of another machine may not be seen here. `was_held`: before the result was read. A
// run that has ended since has left its lock, one that has begun since has taken it.
std::string status_of(const fs::path& folder, const ordered_json& result, bool was_held) {
  if (was_held) return "running";
  const ordered_json said = at(result, "status");
  if (said.is_string() && said != "running") return said.get<std::string>();
  if (FolderLock::is_held(folder)) return "running";
  if (!said.is_string()) return "killed";
  const ordered_json host = at(result, "hostname");
  return host.is_string() && host != host_name() ? "unknown" : "killed";
}

// What a run that has not ended has come to, from its metrics. Only the lines that count are
// parsed.
class Progress {
 public:
  explicit Progress(const fs::path& metrics) : path_(metrics) {
    constexpr std::uint64_t kMostBytes = 1 << 30;
    const std::string text = read_at_most(metrics, kMostBytes);
    std::string_view last;
    std::size_t begin = 0;
    for (std::size_t end = 0; (end = text.find('\n', begin)) != text.npos; begin = end + 1) {
      const std::string_view line = std::string_view(text).substr(begin, end - begin);
      if (line.find("\"train/loss\"") != line.npos) last = line;
      if (line.find("\"val/loss\"") != line.npos) add(line, &Progress::add_validation);
    }
    if (!last.empty()) add(last, &Progress::add_training);
  }

  const ordered_json& facts() const { return facts_; }
  const std::string& problem() const { return problem_; }  // with the first damaged line; "": none

 private:
  void add(std::string_view line, void (Progress::*add_values)(const ordered_json&)) {
    try {
      (this->*add_values)(parsed(line));
    } catch (const Error& error) {
      if (problem_.empty()) problem_ = error.what();
    }
  }

  ordered_json parsed(std::string_view line) const {
    const json parsed = parse_json(line, path_.string(), ExitCode::data);
    const bool has_step = parsed.is_object() && parsed.contains("step");
    if (has_step && parsed.at("step").is_number_unsigned()) return parsed;
    throw Error(ExitCode::data, path_.string() + ": a line has no \"step\" that is a whole number");
  }

  void add_training(const ordered_json& line) {
    facts_["step"] = line.at("step");
    const ordered_json loss = at(line, "train/loss"), rate = at(line, "perf/tokens_per_second");
    facts_["train_loss"] = loss.is_number() ? loss : ordered_json(nullptr);
    if (rate.is_number()) facts_["tokens_per_second"] = rate;
  }

  void add_validation(const ordered_json& line) {
    const ordered_json loss = at(line, "val/loss");
    if (!loss.is_number()) return;
    facts_["val_loss"] = loss;
    if (best_ && *best_ <= loss.get<double>()) return;
    best_ = loss.get<double>();
    facts_["best_val_loss"] = loss;
    facts_["best_val_step"] = line.at("step");
  }

  fs::path path_;
  std::string problem_;
  ordered_json facts_ = ordered_json::object();
  std::optional<double> best_;
};

// Seconds of the sessions before, and of this one up to its last sign of life.
std::optional<double> wall_seconds(const ordered_json& result, const fs::path& metrics) {
  const ordered_json earlier = at(result, "wall_seconds"), started = at(result, "started");
  if (!earlier.is_number() || !started.is_string()) return std::nullopt;
  const std::optional<std::int64_t> begin = utc_seconds(started.get<std::string>());
  std::error_code error;
  const fs::file_time_type written = fs::last_write_time(metrics, error);
  if (!begin || error) return std::nullopt;
  const auto last = std::chrono::file_clock::to_sys(written).time_since_epoch();
  const double seconds = std::chrono::duration<double>(last).count() - static_cast<double>(*begin);
  return earlier.get<double>() + std::max(0.0, seconds);
}

}  // namespace

ordered_json option_value(const Setting& setting) {
  const OptionSpec& option = *setting.option;
  if (option.is_list()) return setting.values;
  const std::string& text = setting.values.front();
  if (!option.is_number() && !option.is_boolean()) return text;
  const ordered_json value = ordered_json::parse(text, nullptr, /*allow_exceptions=*/false);
  return value.is_discarded() ? ordered_json(text) : value;
}

bool is_run(const fs::path& folder) {
  std::error_code ignored;
  return fs::is_regular_file(folder / kConfigFile, ignored);
}

RunSummary summarize_run(const fs::path& folder) {
  RunSummary run{.name = "",
                 .path = folder.string(),
                 .facts = ordered_json::object(),
                 .options = ordered_json::object(),
                 .problems = {}};
  ordered_json result = ordered_json::object(), progress = ordered_json::object();
  const auto attempt = [&](const char* name, const std::function<void(const fs::path&)>& read) {
    std::error_code ignored;
    try {
      if (fs::exists(folder / name, ignored)) read(folder / name);
    } catch (const Error& error) {
      run.problems.emplace_back(error.what());
    }
  };
  const bool was_held = FolderLock::is_held(folder);
  attempt(kConfigFile, [&](const fs::path& path) { run.options = read_options(path); });
  attempt(kResultFile, [&](const fs::path& path) { result = read_result(path); });
  const std::string status = status_of(folder, result, was_held);
  run.facts["status"] = status;
  for (const auto& [key, value] : result.items()) {
    if (key != "status") run.facts[key] = value;
  }
  if (status != "running" && status != "killed" && status != "unknown") return run;
  attempt(kMetricsFile, [&](const fs::path& path) {
    const Progress read(path);
    progress = read.facts();
    if (!read.problem().empty()) run.problems.push_back(read.problem());
  });
  run.facts.update(progress);
  if (const auto seconds = wall_seconds(result, folder / kMetricsFile)) {
    run.facts["wall_seconds"] = *seconds;
  }
  for (const char* key : {"exit_code", "error", "end_reason", "end_detail"}) {
    run.facts[key] = nullptr;  // of the session before
  }
  return run;
}

}  // namespace lathe
