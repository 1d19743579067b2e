// A run's folder: config.toml, env.json, metrics.jsonl, log.txt, main.log, result.json, samples/,
// tensorboard/, checkpoints/. docs/formats.md says what is in each.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "lathe/files.h"
#include "lathe/folder_lock.h"
#include "lathe/line_file.h"

namespace lathe {

class TensorBoardWriter;

inline constexpr const char* kTokenKeysFile = "tokens.json";

struct StepMetrics {
  std::int64_t step;  // 1 for the first update
  double loss;        // mean over the step's tokens, before the update, nats
  double lr;
  double grad_norm;  // before clipping
  double tokens_per_second;
  bool skipped;  // it was not let at the weights
};

// What result.json says: `running` from the start on, and how the run ended.
struct RunResult {
  std::string status;  // running | finished | stopped | failed
  int exit_code = 0;
  std::string error;  // of a failed run
  // steps | stop_if | target_val_loss | patience | signal | max_time | stop_at_step | error
  std::string end_reason;
  std::string end_detail;  // the rule that has ended the run
  std::int64_t step = 0, steps = 0, tokens = 0, skipped_steps = 0, rollbacks = 0;
  std::optional<double> train_loss, val_loss, best_val_loss, floor, floor_standard_error;
  std::int64_t best_val_step = 0;
  double tokens_per_second = 0, wall_seconds = 0;
  std::int64_t peak_memory_bytes = 0;
  std::int64_t parameters = 0;
  std::uint64_t seed = 0;
  std::int64_t failed_saves = 0;
  std::string precision, device, checkpoint;
};

// Where a run goes on, and whether what it goes on from has seen the validation of that step.
struct ResumedStep {
  std::int64_t step;
  bool is_validated;
};

struct RunFolderSpec {
  std::filesystem::path folder;
  std::optional<ResumedStep> resumed;  // nullopt: a new run
  std::string config;                  // config.toml
  bool quiet;                          // nothing on stdout
  bool llmc_log;                       // main.log too
  bool tensorboard;                    // event files too
  bool writes = true;                  // false: of a rank that leaves all this to the first one
};

class RunFolder {
 public:
  // Refuses a folder that holds something, unless it is a run's and `overwrite` or `resumes` says
  // what to do with it. Changes nothing.
  static void check(const std::filesystem::path& folder, bool overwrite, bool resumes);

  // Keeps other processes out of the folder until the lock goes; of none while there is no folder.
  // Error(usage) when another process writes there.
  static FolderLock lock(const std::filesystem::path& folder);

  // Of tokens.json; none when there is none.
  static std::map<std::string, std::string> token_keys(const std::filesystem::path& folder);

  // Where it writes: makes the folder, or empties the run that it holds. A resumed run's metrics
  // are cut after its step. `lock` is what lock() gave before the folder was looked at. Errors:
  // storage, and usage where another process has made the folder since.
  RunFolder(const RunFolderSpec& spec, FolderLock lock);
  ~RunFolder();

  const std::filesystem::path& path() const { return folder_; }
  std::vector<std::filesystem::path> metrics_files() const;  // lines that are cut on resume
  void write_result(const RunResult& result);
  // env.json, from Backend::description() and --threads.
  void write_session(const std::string& device, std::int64_t threads);
  void write_token_keys(const std::map<std::string, std::string>& keys);  // nothing without any
  void write_plans(const std::string& plans);  // nothing when there are none
  void write_sample(std::int64_t step, const std::string& text);
  std::filesystem::path sample_path(std::int64_t step) const;

  // Cuts the metrics after a step that the run has gone back to.
  void go_back_to(const ResumedStep& step);

  void training(const StepMetrics& metrics);
  void validation(std::int64_t step, double loss);
  // For main.log alone, which has one accuracy: acc_norm. metrics() has those of all tasks.
  void main_accuracy(std::int64_t step, double accuracy);
  // That the run goes on from `step`.
  void resumed(std::int64_t step);
  // Any others, by name.
  void metrics(std::int64_t step, const std::vector<std::pair<std::string, double>>& values);
  void say(const std::string& line);       // to log.txt and, unless quiet, stdout
  void announce(const std::string& line);  // to both: warnings and the end

  // Tries once more to write what could not be written, and says why it still cannot be; "": all is
  // written. Nothing but the constructor, write_config and write_token_keys fails for the disk: it
  // is said on stderr, once, kept in memory and tried again.
  std::string find_unwritten();

 private:
  void add(std::optional<LineFile>& file, const std::string& line);
  void add_metrics(const std::string& line);
  void write_soon(const std::filesystem::path& path, const std::string& text);
  void write_unwritten();
  void sync_metrics();
  void warn_once(const std::string& problem);
  void restart_tensorboard(std::int64_t step);
  void with_tensorboard(const std::function<void(TensorBoardWriter&)>& write);

  std::filesystem::path folder_;
  FolderLock lock_;
  std::string config_hash_, started_;  // for result.json
  bool writes_, quiet_;
  std::optional<LineFile> metrics_, log_, llmc_log_;
  std::unique_ptr<TensorBoardWriter> tensorboard_;
  std::map<std::filesystem::path, std::string> unwritten_;  // files as they are to be
  std::string problem_;                                     // with one of these
  double tried_at_ = 0;
  bool has_warned_ = false;
};

}  // namespace lathe
