// lathe train. Nothing is written before everything that can be refused has been checked.
#include <fmt/format.h>

#include <filesystem>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <system_error>

#include "lathe/commands.h"
#include "lathe/model_files.h"
#include "lathe/resume.h"
#include "lathe/stop_signal.h"
#include "run/run_files.h"
#include "trainer.h"

namespace lathe {
namespace {

// That a model to start from and the data go together.
void check_tokens(const InitialModel& initial, TrainingData& data) {
  require_tokenizer(initial, data);
  if (!data.tokenizer) return;
  const std::string warning = warning_of_other_tokens(initial.source->info(), *data.tokenizer);
  if (!warning.empty()) data.warnings.push_back(warning);
}

// The run's own, which a checkpoint names relative to itself; of one that was copied away from its
// run, the one that the run was started with.
std::string tokenizer_of(const CheckpointInfo& start, const Options& options) {
  std::error_code ignored;
  const bool is_path = start.tokenizer.find('/') != std::string::npos;
  return is_path && !std::filesystem::exists(start.tokenizer, ignored) ? options.tokenizer
                                                                       : start.tokenizer;
}

// Whether a run that --resume is to go on with has nothing left to do: it is at its last step, or a
// rule has ended it and nobody has asked for more.
bool is_over(const Options& options, const CheckpointInfo& start, const TrainingData& data) {
  const bool at_end = is_at_end(options, start, data);
  const std::string reason = end_reason(options.out);
  return !reason.empty() && (at_end || (reason != "steps" && *options.resume == "auto"));
}

// Leaves a run that was asked to stop before its first step: such as --resume=auto takes up.
int leave_stopped(const Options& options, const std::optional<CheckpointInfo>& start,
                  const std::string& message) {
  const std::int64_t step = start ? start->state.step : 0;
  RunFolder folder({.folder = options.out,
                    .resumed = start ? std::optional(resumed_step(start->state)) : std::nullopt,
                    .config = to_toml(options),
                    .quiet = options.quiet,
                    .llmc_log = options.llmc_log,
                    .tensorboard = false},
                   RunFolder::lock(options.out));
  folder.announce(fmt::format("{}: before the first step; go on with --resume=auto", message));
  RunResult result;
  result.status = "stopped";
  result.end_reason = stop_reason();
  result.exit_code = stop_exit_code();
  result.step = step;
  result.seed = options.seed;
  result.precision = options.precision;
  if (start) {
    result.tokens = start->state.tokens;
    result.best_val_loss = start->state.best_val_loss;
    result.best_val_step = start->state.best_val_step;
    result.checkpoint = fmt::format("checkpoints/step-{:08}", step);
  }
  folder.write_result(result);
  return result.exit_code;
}

// The run; nullptr when there is nothing left of it. `start` is what it goes on from.
std::unique_ptr<Trainer> make_trainer(Options& options, std::optional<CheckpointInfo>& start) {
  FolderLock lock = RunFolder::lock(options.out);
  start = find_start(options);
  const auto initial = start ? std::nullopt : open_initial_model(options);
  resolve(options);
  DataOrigin origin{.tokenizer = options.tokenizer, .token_keys = {}};
  if (start) {
    origin = {.tokenizer = tokenizer_of(*start, options),
              .token_keys = RunFolder::token_keys(options.out)};
  }
  TrainingData data = open_training_data(options, origin);
  if (initial) check_tokens(*initial, data);
  if (start && is_over(options, *start, data)) {
    fmt::print("{}: finished at step {}; nothing to do\n", options.out, start->state.step);
    return nullptr;
  }
  if (start && *options.resume != "auto") start->state.stop_rules.end_reason.clear();
  return std::make_unique<Trainer>(options, std::move(lock), std::move(data), start,
                                   initial ? initial->source.get() : nullptr);
}

}  // namespace

int train_command(const Options& given) {
  const StopSignalWatch watch;
  constexpr double kNoLimit = std::numeric_limits<double>::infinity();
  stop_after(given.max_time.empty() ? kNoLimit : parse_duration(given.max_time));
  Options options = given;
  RunFolder::check(options.out, options.overwrite, options.resume.has_value());
  if (!options.trace.empty()) check_trace_path(options.trace, options.out);
  std::optional<CheckpointInfo> start;
  std::unique_ptr<Trainer> trainer;
  try {
    trainer = make_trainer(options, start);
  } catch (const Error& error) {
    if (!is_stop(error)) throw;
    return leave_stopped(options, start, error.what());
  }
  return trainer ? trainer->run() : 0;
}

}  // namespace lathe
