#include "lathe/run_folder.h"

#include <fmt/format.h>
#include <fmt/os.h>
#include <unistd.h>

#include <cstdio>
#include <functional>
#include <nlohmann/json.hpp>
#include <string_view>

#include "base/strict_json.h"
#include "lathe/dataset.h"
#include "lathe/error.h"
#include "lathe/version.h"
#include "llmc_log.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

constexpr const char* kConfig = "config.toml";
constexpr const char* kMetrics = "metrics.jsonl";
constexpr const char* kLog = "log.txt";
constexpr const char* kLlmcLog = "main.log";
constexpr const char* kResult = "result.json";
constexpr const char* kPlans = "gemm_plans.json";
constexpr const char* kSamples = "samples";
constexpr const char* kCheckpoints = "checkpoints";

bool holds_something(const fs::path& folder) {
  std::error_code ignored;
  return fs::exists(folder, ignored) &&
         !(fs::is_directory(folder, ignored) && fs::is_empty(folder, ignored));
}

[[noreturn]] void fail_storage(const fs::path& path, const std::error_code& error) {
  throw Error(ExitCode::storage,
              fmt::format("{}: cannot be written: {}", path.string(), error.message()));
}

void make_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) fail_storage(folder, error);
}

// Removes what a run has made, and nothing that a user may have put beside it.
void remove_run(const fs::path& folder) {
  for (const char* name : {kCheckpoints, kSamples, kMetrics, kLog, kLlmcLog, kResult, kPlans,
                           kTokenKeysFile, kTokenizerFolder, kTokenizerFile, kConfig}) {
    std::error_code error;
    fs::remove_all(folder / name, error);
    if (error) fail_storage(folder / name, error);
  }
}

// The step of a line of metrics.jsonl; nullopt for what is none.
std::optional<std::uint64_t> step_of(std::string_view line) {
  const auto json = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
  const auto step = json.is_object() ? json.find("step") : json.end();
  if (step == json.end() || !step->is_number_unsigned()) return std::nullopt;
  return step->get<std::uint64_t>();
}

// Cuts a file of lines before the first that is not to be kept. A last line without its end was cut
// by a kill.
void cut_lines(const fs::path& path, const std::function<bool(std::string_view)>& keeps) {
  if (!fs::exists(path)) return;
  const std::string text = read_file(path, ExitCode::storage);
  std::size_t kept = 0;
  for (std::size_t end = 0; (end = text.find('\n', kept)) != std::string::npos; kept = end + 1) {
    if (!keeps(std::string_view(text).substr(kept, end - kept))) break;
  }
  if (kept == text.size()) return;
  std::error_code error;
  fs::resize_file(path, kept, error);
  if (error) fail_storage(path, error);
}

// What comes after step `resumed_step` will come again.
void cut_metrics(const fs::path& folder, std::int64_t resumed_step) {
  cut_lines(folder / kMetrics, [&](std::string_view line) {
    const auto step = step_of(line);
    return step && *step <= static_cast<std::uint64_t>(resumed_step);
  });
  cut_lines(folder / kLlmcLog,
            [&](std::string_view line) { return is_llmc_line_until(line, resumed_step); });
}

// The lock that is held, or that of a folder made here.
FolderLock lock_folder(const fs::path& folder, FolderLock lock) {
  if (lock.is_of_folder()) return lock;
  make_folder(folder);
  FolderLock made(folder);
  if (fs::is_empty(folder)) return made;
  throw Error(ExitCode::usage,
              fmt::format("--out {}: another process has made a run there meanwhile; give another "
                          "folder, or --resume to go on with it",
                          folder.string()));
}

// A run's folder as it is when its first step comes.
fs::path prepared(const fs::path& folder, std::optional<std::int64_t> resumed_step) {
  if (resumed_step) {
    cut_metrics(folder, *resumed_step);
  } else {
    remove_run(folder);
  }
  return folder;
}

nlohmann::ordered_json or_null(const std::optional<double>& value) {
  return value ? nlohmann::ordered_json(*value) : nlohmann::ordered_json(nullptr);
}

}  // namespace

void RunFolder::check(const fs::path& folder, bool overwrite, bool resumes) {
  if (!holds_something(folder)) return;
  if (!fs::is_directory(folder)) {
    throw Error(ExitCode::storage,
                fmt::format("--out {}: is a file, must be a folder", folder.string()));
  }
  if (!fs::exists(folder / kConfig)) {
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

bool RunFolder::has_finished(const fs::path& folder) {
  if (!fs::exists(folder / kResult)) return false;
  const auto json = nlohmann::json::parse(read_file(folder / kResult, ExitCode::checkpoint),
                                          nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return false;
  const auto status = json.find("status");
  return status != json.end() && *status == "finished";
}

std::string RunFolder::end_reason(const fs::path& folder) {
  if (!has_finished(folder)) return "";
  const auto json = nlohmann::json::parse(read_file(folder / kResult, ExitCode::checkpoint));
  const auto reason = json.find("end_reason");  // runs of older versions have none
  return reason != json.end() && reason->is_string() ? reason->get<std::string>() : "steps";
}

FolderLock RunFolder::lock(const fs::path& folder) {
  std::error_code ignored;
  return fs::is_directory(folder, ignored) ? FolderLock(folder) : FolderLock();
}

RunFolder::RunFolder(const RunFolderSpec& spec, FolderLock lock)
    : folder_(spec.folder),
      lock_(lock_folder(folder_, std::move(lock))),
      quiet_(spec.quiet),
      metrics_(prepared(folder_, spec.resumed_step) / kMetrics, OutputFile::Mode::append),
      log_(folder_ / kLog, OutputFile::Mode::append) {
  if (spec.llmc_log) llmc_log_.emplace(folder_ / kLlmcLog, OutputFile::Mode::append);
}

void RunFolder::write_config(const std::string& toml) {
  write_file_atomically(folder_ / kConfig, toml);
}

void RunFolder::write_result(const RunResult& r) {
  const nlohmann::ordered_json json = {
      {"status", r.status},
      {"exit_code", r.exit_code},
      {"error",
       r.error.empty() ? nlohmann::ordered_json(nullptr) : nlohmann::ordered_json(r.error)},
      {"end_reason", r.end_reason},
      {"end_detail", r.end_detail.empty() ? nlohmann::ordered_json(nullptr)
                                          : nlohmann::ordered_json(r.end_detail)},
      {"step", r.step},
      {"steps", r.steps},
      {"tokens", r.tokens},
      {"skipped_steps", r.skipped_steps},
      {"rollbacks", r.rollbacks},
      {"train_loss", or_null(r.train_loss)},
      {"val_loss", or_null(r.val_loss)},
      {"best_val_loss", or_null(r.best_val_loss)},
      {"best_val_step", r.best_val_step},
      {"val_floor", or_null(r.floor)},
      {"val_floor_standard_error", or_null(r.floor_standard_error)},
      {"tokens_per_second", r.tokens_per_second},
      {"wall_seconds", r.wall_seconds},
      {"peak_memory_bytes", r.peak_memory_bytes},
      {"parameters", r.parameters},
      {"seed", r.seed},
      {"precision", r.precision},
      {"device", r.device},
      {"checkpoint", r.checkpoint.empty() ? nlohmann::ordered_json(nullptr)
                                          : nlohmann::ordered_json(r.checkpoint)},
      {"version", version()}};
  write_file_atomically(folder_ / kResult, json.dump(2) + "\n");
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
  if (!keys.empty())
    write_file_atomically(folder_ / kTokenKeysFile, nlohmann::ordered_json(keys).dump(2) + "\n");
}

void RunFolder::write_plans(const std::string& plans) {
  if (!plans.empty()) write_file_atomically(folder_ / kPlans, plans);
}

void RunFolder::write_sample(std::int64_t step, const std::string& text) {
  make_folder(folder_ / kSamples);
  write_file_atomically(folder_ / kSamples / fmt::format("step-{:08}.txt", step), text);
}

void RunFolder::go_back_to(std::int64_t step) {
  cut_metrics(folder_, step);
}

void RunFolder::training(const StepMetrics& m) {
  nlohmann::ordered_json line = {{"step", m.step},
                                 {"train/loss", m.loss},
                                 {"train/lr", m.lr},
                                 {"train/grad_norm", m.grad_norm},
                                 {"perf/tokens_per_second", m.tokens_per_second}};
  if (m.skipped) line["train/skipped"] = true;
  metrics_.write(line.dump() + "\n");
  if (llmc_log_) llmc_log_->write(llmc_training_line(m));
}

void RunFolder::validation(std::int64_t step, double loss) {
  const nlohmann::ordered_json line = {{"step", step}, {"val/loss", loss}};
  metrics_.write(line.dump() + "\n");
  if (llmc_log_) llmc_log_->write(llmc_validation_line(step, loss));
}

void RunFolder::main_accuracy(std::int64_t step, double accuracy) {
  if (llmc_log_) llmc_log_->write(llmc_accuracy_line(step, accuracy));
}

void RunFolder::metrics(std::int64_t step,
                        const std::vector<std::pair<std::string, double>>& values) {
  nlohmann::ordered_json line = {{"step", step}};
  for (const auto& [name, value] : values) line[name] = value;
  metrics_.write(line.dump() + "\n");
}

void RunFolder::say(const std::string& line) {
  if (!quiet_) return announce(line);
  log_.write(line + "\n");
}

void RunFolder::announce(const std::string& line) {
  log_.write(line + "\n");
  std::fputs((line + "\n").c_str(), stdout);
  std::fflush(stdout);
}

}  // namespace lathe
