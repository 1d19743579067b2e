// One run of lathe train, from its first step in this process to its last. Its steps are in
// trainer.cpp, what becomes of each in trainer_guard.cpp, what happens between them in
// trainer_events.cpp, what it says in trainer_report.cpp, who watches them in trainer_watch.cpp.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "finite_check.h"
#include "lathe/adamw.h"
#include "lathe/checkpoint.h"
#include "lathe/communicator.h"
#include "lathe/data_loader.h"
#include "lathe/decoder.h"
#include "lathe/exit_codes.h"
#include "lathe/horizon.h"
#include "lathe/model.h"
#include "lathe/model_source.h"
#include "lathe/options.h"
#include "lathe/run_folder.h"
#include "lathe/schedule.h"
#include "lathe/step_guard.h"
#include "lathe/stop_rules.h"
#include "lathe/trace.h"
#include "lathe/training_data.h"
#include "run/checkpoint_saver.h"
#include "training_tasks.h"

namespace lathe {

class Trainer {
 public:
  // `initial`: what a new run takes its first parameters from, or nullptr. With `communicator` it
  // is one rank's part of the run: what is decided is decided alike on all, and the first one
  // writes.
  Trainer(const Options& options, FolderLock lock, TrainingData data,
          std::optional<CheckpointInfo> start, const ModelSource* initial,
          Communicator& communicator = alone());

  int run();

  Backend& backend() { return *backend_; }  // to be observed, before it runs
  const DataLoader& loader() const { return *loader_; }
  const Gpt2& model() const { return model_; }

 private:
  // Of one update, before it.
  struct Step {
    double loss, gradient_norm, seconds;
    bool updated;
  };
  void run_steps();
  void give_up();
  void check_start();
  void check_ranks(const char* when, std::int64_t step);
  void check_ranks_in_step();
  std::optional<Step> train_step();
  void next_batch();
  bool settle(const Step& step);
  void roll_back(const std::string& reason);
  void log_step(const Step& step);
  void observe(const StepMetrics& metrics);
  std::optional<StepRange> watched_steps() const;
  void follow_watched_steps();
  bool are_watched_steps_over() const;
  void finish_trace();
  std::optional<Trace::Text> stop_trace(Trace::WallTime origin);
  void write_traces(std::span<const Trace::Text> ranks);
  Trace::Span span(const char* name, TraceNumber number = {}) {
    return {trace_.get(), name, "step", number};
  }
  void validate();
  void measure_loss();
  void catch_up();
  CheckpointData checkpoint_data();
  void save();
  void finish_saving();
  void check_disk_space();
  void warn_of_little_space();
  void require_all_written();
  void show_sample();
  void end_run();
  void write_start();
  void describe(const std::string& status, const std::string& reason, int exit_code);
  void finish(const std::string& status, const std::string& reason, int exit_code);
  void fail(const Failure& failure);
  bool must_stop();
  bool has_ended() const { return !state_.stop_rules.end_reason.empty(); }
  void say_start();
  void show_start(double loss);
  void show_end();
  bool is_due(std::int64_t every) const { return every > 0 && state_.step % every == 0; }
  double wall_seconds() const { return earlier_seconds_ + now() - started_; }

  Communicator& communicator_;
  Options options_;
  TrainingData data_;
  std::vector<MultipleChoiceTask> tasks_;
  ModelConfig config_;
  Horizon horizon_;
  ScheduleSpec schedule_;
  StepGuard guard_;
  StopRules stop_rules_;
  std::unique_ptr<Backend> backend_;
  Gpt2 model_;
  CachedDecoder decoder_;  // of samples
  AdamW adamw_;
  Gpt2::BlockIsDone block_is_done_;  // of several ranks
  std::optional<FiniteCheck> finite_check_;
  TrainState state_;
  bool is_new_;
  std::optional<ModelInfo> initial_;
  std::optional<DataLoader> loader_;
  std::optional<RunFolder> folder_;
  std::vector<std::int32_t> tokens_, targets_;  // (B, T) of a micro-batch
  std::optional<StepRange> watched_;
  std::unique_ptr<Trace> trace_;  // before the saver, whose thread writes into it
  RunResult result_;
  std::optional<CheckpointSaver> saver_;
  double started_ = now(), earlier_seconds_ = 0, training_seconds_ = 0;
  std::int64_t trained_tokens_ = 0;  // in this process
};

}  // namespace lathe
