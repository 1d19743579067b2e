#include "sweep_record.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <system_error>
#include <utility>

#include "lathe/files.h"
#include "lathe/version.h"
#include "run/session_facts.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

ordered_json fact(const RunRecord& record, const char* key) {
  const auto found = record.summary.facts.find(key);
  return found == record.summary.facts.end() ? ordered_json(nullptr) : *found;
}

// What the folder has of an option against what the run is to have now.
bool has_same(const RunRecord& record, const char* name) {
  const OptionSpec& option = *find_option(name);
  const std::string now = value_text(record.run->options, option);
  const auto saved = record.summary.options.find(name);
  if (saved == record.summary.options.end()) return now.empty();
  return !now.empty() && option_value({&option, {now}, ""}) == *saved;
}

void read_folder(RunRecord& record) {
  const SweepRun& run = *record.run;
  record.summary = is_run(run.folder) ? summarize_run(run.folder)
                                      : RunSummary{.name = "",
                                                   .path = run.folder.string(),
                                                   .facts = ordered_json::object(),
                                                   .options = ordered_json::object(),
                                                   .problems = {}};
  record.summary.name = run.name;
}

ordered_json run_json(const RunRecord& record) {
  ordered_json json = {
      {"name", record.run->name},
      {"folder", record.run->folder.string()},
      {"log", log_of(*record.run).string()},
      {"options", varied_values(*record.run)},
      {"status", record.status},
      {"exit_code", record.exit_code ? ordered_json(*record.exit_code) : ordered_json(nullptr)},
      {"error", record.error.empty() ? ordered_json(nullptr) : ordered_json(record.error)},
      {"attempts", record.attempts}};
  for (const char* key : {"step", "steps", "train_loss", "val_loss", "best_val_loss",
                          "best_val_step", "wall_seconds", "end_reason", "checkpoint"}) {
    json[key] = fact(record, key);
  }
  return json;
}

}  // namespace

RunRecord look_at(const SweepRun& run) {
  RunRecord record{
      .run = &run, .summary = {}, .status = "waiting", .exit_code = std::nullopt, .error = ""};
  read_folder(record);
  const ordered_json status = fact(record, "status"), code = fact(record, "exit_code"),
                     error = fact(record, "error");
  if (status.is_string()) record.status = status.get<std::string>();
  if (code.is_number_integer()) record.exit_code = code.get<int>();
  if (error.is_string()) record.error = error.get<std::string>();
  return record;
}

void look_again(RunRecord& record) {
  read_folder(record);
}

bool is_due(const RunRecord& record) {
  if (record.status == "failed") {
    return record.exit_code != static_cast<int>(ExitCode::diverged);
  }
  if (record.status != "finished") return true;
  return fact(record, "end_reason") == "steps" &&
         !(has_same(record, "steps") && has_same(record, "tokens") && has_same(record, "epochs"));
}

std::vector<std::string> other_runs(const fs::path& folder, const std::vector<SweepRun>& runs) {
  std::error_code ignored;
  if (!fs::exists(folder / kSweepFile, ignored)) return {};
  const auto before = nlohmann::json::parse(read_file(folder / kSweepFile, ExitCode::storage),
                                            nullptr, /*allow_exceptions=*/false);
  std::vector<std::string> others;
  const auto take = [&](const nlohmann::json& name) {
    if (!name.is_string()) return;
    const auto text = name.get<std::string>();
    const bool is_ours = std::ranges::find(runs, text, &SweepRun::name) != runs.end();
    if (!is_ours && is_run(folder / text)) others.push_back(text);
  };
  if (!before.is_object()) return {};
  for (const auto& run : before.value("runs", nlohmann::json::array())) {
    if (run.is_object()) take(run.value("name", nlohmann::json()));
  }
  for (const auto& name : before.value("others", nlohmann::json::array())) take(name);
  return others;
}

std::string sweep_json(const SweepRecord& sweep) {
  ordered_json runs = ordered_json::array();
  for (const RunRecord& record : sweep.runs) runs.push_back(run_json(record));
  const ordered_json json = {
      {"format", "lathe sweep"},
      {"version", 1},
      {"grid_file", sweep.grid_file.string()},
      {"grid_sha256", sweep.grid_sha256},
      {"folder", sweep.folder.string()},
      {"status", sweep.status},
      {"exit_code", sweep.exit_code ? ordered_json(*sweep.exit_code) : ordered_json(nullptr)},
      {"jobs", sweep.jobs},
      {"retries", sweep.retries},
      {"started", sweep.started},
      {"hostname", host_name()},
      {"pid", getpid()},
      {"lathe", version()},
      {"runs", std::move(runs)},
      {"others", sweep.others}};
  return json.dump(2, ' ', /*ensure_ascii=*/false, ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace lathe
