#include "lathe/run_folder.h"

#include <fmt/format.h>
#include <fmt/os.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string_view>
#include <system_error>
#include <utility>

#include "base/clock.h"
#include "base/strict_json.h"
#include "checkpoint_names.h"
#include "lathe/checkpoint.h"
#include "lathe/dataset.h"
#include "lathe/error.h"
#include "llmc_log.h"
#include "run_files.h"
#include "session_facts.h"
#include "tensorboard.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPartialConfig = ".config.toml.partial";  // of write_file_atomically
constexpr const char* kLog = "log.txt";
constexpr const char* kLlmcLog = "main.log";
constexpr const char* kPlans = "gemm_plans.json";
constexpr const char* kSamples = "samples";
constexpr const char* kTensorBoard = "tensorboard";

// A run that was killed before it had its first file has left nothing.
bool holds_something(const fs::path& folder) {
  std::error_code ignored;
  if (!fs::is_directory(folder, ignored)) return fs::exists(folder, ignored);
  return std::ranges::any_of(entries(folder, ExitCode::storage), [](const fs::path& path) {
    return path.filename() != kPartialConfig;
  });
}

[[noreturn]] void fail_to_write(const fs::path& path, const std::error_code& error) {
  throw Error(ExitCode::storage,
              fmt::format("{}: cannot be written: {}", path.string(), error.message()));
}

void make_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) fail_to_write(folder, error);
}

// Removes what a run has made, and nothing that a user may have put beside it.
void remove_run(const fs::path& folder) {
  for (const char* name :
       {kCheckpointsFolder, kSamples, kTensorBoard, kMetricsFile, kLog, kLlmcLog, kResultFile,
        kSessionFile, kPlans, kTokenKeysFile, kTokenizerFolder, kTokenizerFile, kConfigFile}) {
    std::error_code error;
    fs::remove_all(folder / name, error);
    if (error) fail_to_write(folder / name, error);
  }
  for (const fs::path& path : entries(folder, ExitCode::storage)) {
    const std::string name = path.filename().string();
    if (!name.starts_with(kRankLogPrefix) || !name.ends_with(".log")) continue;
    std::error_code error;
    fs::remove(path, error);
    if (error) fail_to_write(path, error);
  }
}

// The step of a line of metrics.jsonl; nullopt for what is none.
std::optional<std::uint64_t> step_of(const nlohmann::json& line) {
  const auto step = line.is_object() ? line.find("step") : line.end();
  if (step == line.end() || !step->is_number_unsigned()) return std::nullopt;
  return step->get<std::uint64_t>();
}

nlohmann::json parsed(std::string_view line) {
  return nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
}

// Whether a line of metrics.jsonl is of the run up to `step`. Of that step's own validation it is
// only where the state that the run goes on from has seen it: else it is made again.
bool is_until(std::string_view line, const ResumedStep& resumed) {
  const auto metrics = parsed(line);
  const std::optional<std::uint64_t> step = step_of(metrics);
  if (!step) return false;
  const auto last = static_cast<std::uint64_t>(resumed.step);
  if (*step != last) return *step < last;
  const auto is_of_validation = [](const auto& item) { return item.key().starts_with("val/"); };
  const auto items = metrics.items();
  return resumed.is_validated || std::none_of(items.begin(), items.end(), is_of_validation);
}

bool is_llmc_until(std::string_view line, const ResumedStep& resumed) {
  return is_llmc_line_until(line, resumed.step, resumed.is_validated);
}

// What comes after the resumed step will come again.
void cut_metrics(const fs::path& folder, const ResumedStep& resumed) {
  cut_lines(folder / kMetricsFile, [&](std::string_view line) { return is_until(line, resumed); });
  cut_lines(folder / kLlmcLog, [&](std::string_view line) { return is_llmc_until(line, resumed); });
}

// The lock that is held, or that of a folder made here.
FolderLock lock_folder(const fs::path& folder, FolderLock lock) {
  if (lock.is_of_folder()) return lock;
  make_folder(folder);
  FolderLock made(folder);
  if (!holds_something(folder)) return made;
  throw Error(ExitCode::usage,
              fmt::format("--out {}: another process has made a run there meanwhile; give another "
                          "folder, or --resume to go on with it",
                          folder.string()));
}

// A run's folder as it is when its first step comes. config.toml is the first file: by it the
// folder is known for a run's.
fs::path prepared(const RunFolderSpec& spec) {
  if (spec.resumed) {
    cut_metrics(spec.folder, *spec.resumed);
  } else {
    remove_run(spec.folder);
  }
  write_file_atomically(spec.folder / kConfigFile, spec.config);
  return spec.folder;
}

// Of a line of metrics.jsonl: null is what was not finite, a truth is 0 or 1, an event has none.
std::vector<NamedValue> values_of(std::string_view line) {
  std::vector<NamedValue> values;
  const auto metrics = nlohmann::ordered_json::parse(line);
  for (const auto& [name, value] : metrics.items()) {
    if (name == "step") continue;
    if (value.is_number()) values.emplace_back(name, value.get<double>());
    if (value.is_boolean()) values.emplace_back(name, value.get<bool>() ? 1.0 : 0.0);
    if (value.is_null()) values.emplace_back(name, std::numeric_limits<double>::quiet_NaN());
  }
  return values;
}

std::string hash_of(const std::string& text) {
  Checksum checksum;
  checksum.update(std::as_bytes(std::span(text)));
  return fmt::format("{:016x}", checksum.value());
}

}  // namespace

void RunFolder::check(const fs::path& folder, bool overwrite, bool resumes) {
  if (!holds_something(folder)) return;
  if (!fs::is_directory(folder)) {
    throw Error(ExitCode::storage,
                fmt::format("--out {}: is a file, must be a folder", folder.string()));
  }
  if (!fs::exists(folder / kConfigFile) && !(resumes && !list_checkpoints(folder).empty())) {
    throw Error(ExitCode::usage,
                fmt::format("--out {}: holds files that are not a run's; give another folder",
                            folder.string()));
  }
  if (overwrite || resumes) return;
  throw Error(ExitCode::usage,
              fmt::format("--out {}: holds a run; give --resume to go on with it, --overwrite to "
                          "replace it, or another folder",
                          folder.string()));
}

FolderLock RunFolder::lock(const fs::path& folder) {
  std::error_code ignored;
  return fs::is_directory(folder, ignored) ? FolderLock(folder) : FolderLock();
}

RunFolder::RunFolder(const RunFolderSpec& spec, FolderLock lock)
    : folder_(spec.folder),
      lock_(spec.writes ? lock_folder(folder_, std::move(lock)) : FolderLock()),
      config_hash_(hash_of(spec.config)),
      started_(utc_now()),
      writes_(spec.writes),
      quiet_(spec.quiet) {
  if (!writes_) return;
  metrics_.emplace(prepared(spec) / kMetricsFile);
  log_.emplace(folder_ / kLog);
  if (spec.llmc_log) llmc_log_.emplace(folder_ / kLlmcLog);
  if (spec.tensorboard) tensorboard_ = std::make_unique<TensorBoardWriter>(folder_ / kTensorBoard);
}

RunFolder::~RunFolder() = default;

std::vector<fs::path> RunFolder::metrics_files() const {
  return {folder_ / kMetricsFile, folder_ / kLlmcLog};
}

// A run that result.json calls finished is not gone on with: what it has measured must be there.
void RunFolder::sync_metrics() {
  if (!writes_) return;
  try {
    std::ranges::for_each(metrics_files(), sync_file);
  } catch (const Error& error) {
    warn_once(error.what());
  }
}

std::map<std::string, std::string> RunFolder::token_keys(const fs::path& folder) {
  const fs::path path = folder / kTokenKeysFile;
  if (!fs::exists(path)) return {};
  const auto json = parse_json(read_file(path, ExitCode::data), path.string(), ExitCode::data);
  std::map<std::string, std::string> keys;
  for (const auto& [option, key] : json.items()) {
    if (!key.is_string()) {
      throw Error(ExitCode::data, fmt::format("{}: {} must be a string", path.string(), option));
    }
    keys[option] = key.get<std::string>();
  }
  return keys;
}

void RunFolder::write_token_keys(const std::map<std::string, std::string>& keys) {
  if (writes_ && !keys.empty())
    write_file_atomically(folder_ / kTokenKeysFile, nlohmann::ordered_json(keys).dump(2) + "\n");
}

void RunFolder::write_plans(const std::string& plans) {
  if (!plans.empty()) write_soon(folder_ / kPlans, plans);
}

std::filesystem::path RunFolder::sample_path(std::int64_t step) const {
  return folder_ / kSamples / fmt::format("step-{:08}.txt", step);
}

void RunFolder::write_sample(std::int64_t step, const std::string& text) {
  write_soon(sample_path(step), text);
}

void RunFolder::go_back_to(const ResumedStep& step) {
  if (!writes_) return;
  metrics_->cut([&](std::string_view line) { return is_until(line, step); });
  if (llmc_log_) llmc_log_->cut([&](std::string_view line) { return is_llmc_until(line, step); });
  restart_tensorboard(step.step);
}

void RunFolder::training(const StepMetrics& m) {
  nlohmann::ordered_json line = {{"step", m.step},
                                 {"train/loss", m.loss},
                                 {"train/lr", m.lr},
                                 {"train/grad_norm", m.grad_norm},
                                 {"perf/tokens_per_second", m.tokens_per_second}};
  if (m.skipped) line["train/skipped"] = true;
  add_metrics(line.dump());
  add(llmc_log_, llmc_training_line(m));
}

void RunFolder::validation(std::int64_t step, double loss) {
  metrics(step, {{"val/loss", loss}});
  add(llmc_log_, llmc_validation_line(step, loss));
}

void RunFolder::main_accuracy(std::int64_t step, double accuracy) {
  add(llmc_log_, llmc_accuracy_line(step, accuracy));
}

// TensorBoard is told again what is kept of that step, and of all before it where no session has
// told it.
void RunFolder::restart_tensorboard(std::int64_t step) {
  with_tensorboard([&](TensorBoardWriter& writer) {
    writer.restart(step);
    const auto first = static_cast<std::uint64_t>(writer.is_first() ? 0 : step);
    std::istringstream lines(read_file(folder_ / kMetricsFile, ExitCode::storage));
    for (std::string line; std::getline(lines, line);) {
      const std::optional<std::uint64_t> at = step_of(parsed(line));
      if (at && *at >= first) writer.add(static_cast<std::int64_t>(*at), values_of(line));
    }
  });
}

void RunFolder::resumed(std::int64_t step) {
  restart_tensorboard(step);
  const nlohmann::ordered_json line = {{"step", step}, {"event", "resume"}};
  add(metrics_, line.dump() + "\n");
}

void RunFolder::metrics(std::int64_t step,
                        const std::vector<std::pair<std::string, double>>& values) {
  nlohmann::ordered_json line = {{"step", step}};
  for (const auto& [name, value] : values) line[name] = value;
  add_metrics(line.dump());
}

void RunFolder::add_metrics(const std::string& line) {
  add(metrics_, line + "\n");
  with_tensorboard([&](TensorBoardWriter& writer) {
    writer.add(static_cast<std::int64_t>(step_of(parsed(line)).value()), values_of(line));
  });
}

// A record that is not whole hides all behind it: after an error the session has no more of them.
void RunFolder::with_tensorboard(const std::function<void(TensorBoardWriter&)>& write) {
  if (!tensorboard_) return;
  try {
    write(*tensorboard_);
  } catch (const Error& error) {
    tensorboard_.reset();
    announce(fmt::format("warning: {}; no more events are written for TensorBoard", error.what()));
  }
}

void RunFolder::say(const std::string& line) {
  if (!quiet_) return announce(line);
  add(log_, line + "\n");
}

void RunFolder::announce(const std::string& line) {
  if (!writes_) return;
  add(log_, line + "\n");
  const bool is_out = std::fputs((line + "\n").c_str(), stdout) >= 0 && std::fflush(stdout) == 0;
  if (!is_out && errno != EPIPE) warn_once("stdout: " + std::generic_category().message(errno));
}

void RunFolder::add(std::optional<LineFile>& file, const std::string& line) {
  if (!file) return;
  file->add(line);
  if (!file->is_complete()) warn_once(file->problem());
  constexpr double kBetweenTries = 1;  // seconds
  if (!unwritten_.empty() && now() - tried_at_ >= kBetweenTries) write_unwritten();
}

// A name that cannot be written now is tried again with the lines that follow.
void RunFolder::write_soon(const fs::path& path, const std::string& text) {
  if (!writes_) return;
  unwritten_[path] = text;
  write_unwritten();
}

void RunFolder::write_unwritten() {
  tried_at_ = now();
  try {
    while (!unwritten_.empty()) {
      const auto& [path, text] = *unwritten_.begin();
      make_folder(path.parent_path());
      write_file_atomically(path, text);
      unwritten_.erase(unwritten_.begin());
    }
  } catch (const Error& error) {
    problem_ = error.what();
    warn_once(problem_);
  }
}

std::string RunFolder::find_unwritten() {
  for (std::optional<LineFile>* file : {&metrics_, &log_, &llmc_log_}) {
    if (!*file) continue;
    (*file)->flush();
    if (!(*file)->is_complete()) return (*file)->problem();
  }
  if (!unwritten_.empty()) write_unwritten();
  return unwritten_.empty() ? "" : problem_;
}

void RunFolder::warn_once(const std::string& problem) {
  if (std::exchange(has_warned_, true)) return;
  fmt::print(stderr, "lathe: warning: {}; the run goes on and keeps it in memory\n", problem);
}

}  // namespace lathe
