// lathe sweep: checks the whole grid, runs what is due of it, and shows which run is best.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <limits>
#include <optional>
#include <system_error>

#include "base/file_kind.h"
#include "base/terminal.h"
#include "lathe/commands.h"
#include "lathe/cuda.h"
#include "lathe/error.h"
#include "lathe/files.h"
#include "lathe/folder_lock.h"
#include "lathe/stop_signal.h"
#include "run/session_facts.h"
#include "run_table.h"
#include "sweep/gpu_slots.h"
#include "sweep/scheduler.h"
#include "sweep/sweep_record.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

std::optional<std::string> environment_variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::nullopt : std::optional<std::string>(value);
}

bool any_takes_several_gpus(const std::vector<SweepRun>& runs) {
  return std::ranges::any_of(runs, [](const SweepRun& run) { return run.options.gpus != 0; });
}

std::vector<std::string> gpus_for(const std::vector<SweepRun>& runs) {
  const bool any =
      std::ranges::any_of(runs, [](const SweepRun& run) { return uses_gpu(run.options); });
  if (!any || any_takes_several_gpus(runs)) return {};
  return visible_gpus(environment_variable(kVisibleGpus), gpu_count());
}

std::vector<const OptionSpec*> columns_of(const std::vector<SweepRun>& runs) {
  std::vector<const OptionSpec*> columns;
  for (const SweepRun& run : runs) {
    for (const Setting& setting : run.varied) {
      const bool is_new = std::ranges::find(columns, setting.option) == columns.end();
      if (is_new) columns.push_back(setting.option);
    }
  }
  return columns;
}

// The best first; what has no validation comes last.
std::string leaderboard(const SweepRecord& sweep, const std::vector<SweepRun>& runs) {
  RunTableSpec spec{.columns = {}, .sort = "", .reverse = false, .width = terminal_width()};
  const std::vector<const OptionSpec*> columns = columns_of(runs);
  for (const OptionSpec* option : columns) spec.columns.emplace_back(option->name);
  std::vector<RunSummary> rows;
  for (const RunRecord& record : sweep.runs) {
    RunSummary row = record.summary;
    row.facts["status"] = record.status;
    for (const OptionSpec* option : columns) {
      row.options[std::string(option->name)] = value_in(*record.run, *option);
    }
    if (row.facts.contains("best_val_loss")) spec.sort = "best_val_loss";
    rows.push_back(std::move(row));
  }
  sort_runs(rows, spec);
  return runs_text(rows, spec);
}

std::string opening(const SweepRecord& sweep) {
  const auto due = std::ranges::count_if(sweep.runs, is_due);
  std::string text = fmt::format("sweep {}: {} runs, {} to do, {} at a time\n",
                                 sweep.folder.string(), sweep.runs.size(), due, sweep.jobs);
  for (const std::string& name : sweep.others) {
    text += fmt::format("kept {}: a run that the grid no longer has\n", name);
  }
  return text;
}

std::string dry_run_text(const SweepRecord& sweep) {
  std::size_t width = 0;
  for (const RunRecord& record : sweep.runs) width = std::max(width, record.run->name.size());
  std::string text = opening(sweep);
  for (const RunRecord& record : sweep.runs) {
    const char* plan = !is_due(record) ? "leave" : record.status == "waiting" ? "start" : "resume";
    text += fmt::format("{:<6}  {:<{}}  {:<8}  {}  {}\n", plan, record.run->name, width,
                        record.status, record.run->folder.string(), varied_text(*record.run));
  }
  return text;
}

// The folder is the sweep's, or is to be.
void check_folder(const fs::path& folder) {
  std::error_code ignored;
  if (fs::exists(folder, ignored) && !fs::is_directory(folder, ignored)) {
    throw Error(ExitCode::storage,
                fmt::format("--out {}: is a file, must be a folder", folder.string()));
  }
  const FolderKind kind = folder_kind(folder);
  if (kind == FolderKind::unknown) return;
  throw Error(ExitCode::usage,
              fmt::format("--out {}: is {}; give the runs of a sweep a folder of their own",
                          folder.string(), title(kind)));
}

FolderLock make_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) {
    throw Error(ExitCode::storage,
                fmt::format("{}: cannot be written: {}", folder.string(), error.message()));
  }
  return FolderLock(folder);
}

// Lines about the sweep: on stdout, or on stderr where stdout is for JSON. Nobody needs to read
// them.
void say(const std::string& lines, bool json) {
  std::FILE* to = json ? stderr : stdout;
  std::fputs(lines.c_str(), to);
  std::fflush(to);
}

// A disk that is full does not end the runs, which wait for it themselves.
class RecordFile {
 public:
  explicit RecordFile(const SweepRecord& sweep) : sweep_(sweep) {}

  void write() {
    try {
      write_file_atomically(sweep_.folder / kSweepFile, sweep_json(sweep_));
      is_written_ = true;
    } catch (const Error& error) {
      if (is_written_) fmt::print(stderr, "lathe: warning: {}; the sweep goes on\n", error.what());
      is_written_ = false;
    }
  }
  bool is_written() const { return is_written_; }

 private:
  const SweepRecord& sweep_;
  bool is_written_ = true;
};

void run_due(SweepRecord& sweep, const std::vector<std::string>& gpus, const Options& options,
             RecordFile& file) {
  std::vector<std::string> hidden;
  for (const Setting& setting : read_environment(Command::sweep, process_environment())) {
    hidden.push_back(setting.origin);
  }
  const auto due = std::ranges::count_if(sweep.runs, is_due);
  const std::int64_t at_once = std::clamp<std::int64_t>(due, 1, sweep.jobs);
  Scheduler scheduler(sweep,
                      {.jobs = static_cast<std::size_t>(at_once),
                       .retries = sweep.retries,
                       .threads = std::max<std::int64_t>(available_threads() / at_once, 1),
                       .gpus = gpus,
                       .hidden_variables = hidden,
                       .changed = [&] { file.write(); },
                       .say = [&](const std::string& line) { say(line + "\n", options.json); }});
  scheduler.run();
}

// That of the first run that has not finished, in the order of the grid.
int exit_code_of(const SweepRecord& sweep) {
  const bool is_left = std::ranges::any_of(
      sweep.runs, [](const RunRecord& record) { return is_due(record) && record.exit_code != 0; });
  if (is_left && is_stop_requested()) return stop_exit_code();
  for (const RunRecord& record : sweep.runs) {
    if (record.exit_code.value_or(0) != 0) return *record.exit_code;
  }
  return 0;
}

int finish(SweepRecord& sweep, RecordFile& file) {
  int code = exit_code_of(sweep);
  sweep.exit_code = code;
  sweep.status = code == 0 ? "finished" : is_stop_requested() ? "stopped" : "failed";
  file.write();
  return code == 0 && !file.is_written() ? static_cast<int>(ExitCode::storage) : code;
}

}  // namespace

int sweep_command(const Options& options) {
  const StopSignalWatch watch;
  stop_after(options.max_time.empty() ? std::numeric_limits<double>::infinity()
                                      : parse_duration("max-time", options.max_time));
  const GridFile grid = read_grid_file(options.paths.front());
  check_folder(options.out);
  const std::vector<SweepRun> runs = make_sweep_runs(grid, options, process_environment());
  if (options.jobs > 1 && any_takes_several_gpus(runs)) {
    throw Error(ExitCode::usage,
                fmt::format("--jobs {}: runs with gpus would share them; must be 1", options.jobs));
  }
  const std::vector<std::string> gpus = gpus_for(runs);
  const auto for_each_gpu = std::max<std::int64_t>(std::ssize(gpus), 1);
  SweepRecord sweep{.folder = options.out,
                    .grid_file = grid.path,
                    .grid_sha256 = grid.sha256,
                    .started = utc_now(),
                    .jobs = options.jobs > 0 ? options.jobs : for_each_gpu,
                    .retries = options.retries,
                    .status = "running",
                    .exit_code = std::nullopt,
                    .runs = {},
                    .others = {}};
  const FolderLock lock = options.dry_run ? FolderLock() : make_folder(options.out);
  for (const SweepRun& run : runs) sweep.runs.push_back(look_at(run));
  sweep.others = other_runs(options.out, runs);
  if (options.dry_run) {
    fmt::print("{}", options.json ? sweep_json(sweep) : dry_run_text(sweep));
    return 0;
  }
  say(opening(sweep), options.json);
  RecordFile file(sweep);
  file.write();
  run_due(sweep, gpus, options, file);
  const int code = finish(sweep, file);
  fmt::print("{}", options.json ? sweep_json(sweep) : leaderboard(sweep, runs));
  return code;
}

}  // namespace lathe
