// lathe train. Nothing is written before everything that can be refused has been checked.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "lathe/commands.h"
#include "lathe/exit_codes.h"
#include "lathe/files.h"
#include "lathe/join_ranks.h"
#include "lathe/model_files.h"
#include "lathe/resume.h"
#include "lathe/stop_signal.h"
#include "rank_agreement.h"
#include "run/run_files.h"
#include "run/session_facts.h"
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

// Whether the first rank finds that the run is over.
bool is_over_for_all(const Options& options, const std::optional<CheckpointInfo>& start,
                     const TrainingData& data, Communicator& communicator) {
  bool found = false;
  do_together(communicator,
              [&] { found = communicator.is_first() && start && is_over(options, *start, data); });
  return communicator.any(found);
}

// Whether this rank is the first of those on its machine.
bool is_first_here(Communicator& communicator) {
  const std::vector<std::string> hosts = communicator.gather(host_name());
  return std::ranges::find(hosts, host_name()) - hosts.begin() == communicator.rank();
}

// The run; nullptr when there is nothing left of it. `start` is what it goes on from.
std::unique_ptr<Trainer> make_trainer(Options& options, std::optional<CheckpointInfo>& start,
                                      Communicator& communicator) {
  FolderLock lock;
  do_together(communicator, [&] {
    if (!communicator.is_first()) return;
    RunFolder::check(options.out, options.overwrite, options.resume.has_value());
    if (!options.trace.empty()) check_trace_path(options.trace, options.out);
    lock = RunFolder::lock(options.out);
  });
  start = find_start(options, communicator);
  std::optional<InitialModel> initial;
  TrainingData data;
  do_together(communicator, [&] {
    if (!start) initial = open_initial_model(options);
    resolve(options, {.all = communicator.size(), .on_this_machine = communicator.local_size()});
  });
  require_same_options(options, communicator);
  const auto open_data = [&] {
    DataOrigin origin{.tokenizer = options.tokenizer, .token_keys = {}};
    if (start) {
      origin = {.tokenizer = tokenizer_of(*start, options),
                .token_keys = RunFolder::token_keys(options.out)};
    }
    data = open_training_data(options, origin);
    if (initial) check_tokens(*initial, data);
  };
  // Text may have to be tokenised first. One rank does so, while the others wait for it as they
  // wait for all that ranks do, and not for a lock, which says nothing of one that is stopped.
  const bool opens_first = is_first_here(communicator);
  do_together(communicator, [&] {
    if (opens_first) open_data();
  });
  do_together(communicator, [&] {
    if (!opens_first) open_data();
  });
  if (is_over_for_all(options, start, data, communicator)) {
    if (communicator.is_first()) {
      fmt::print("{}: finished at step {}; nothing to do\n", options.out, start->state.step);
    }
    return nullptr;
  }
  if (start && *options.resume != "auto") start->state.stop_rules.end_reason.clear();
  return std::make_unique<Trainer>(options, std::move(lock), std::move(data), start,
                                   initial ? initial->source.get() : nullptr, communicator);
}

// RUN/rank-0003.log: what ended a rank. Best effort, the run has failed anyhow.
void write_rank_log(const Options& options, const Communicator& communicator,
                    const Failure& failure) {
  try {
    OutputFile log(
        std::filesystem::path(options.out) / fmt::format("rank-{:04}.log", communicator.rank()),
        OutputFile::Mode::append);
    log.write(fmt::format("{} {}: exit code {}: {}\n", utc_now(), host_name(),
                          static_cast<int>(failure.code), failure.message));
  } catch (const Error&) {
    return;
  }
}

int run(Trainer& trainer, const Options& options, const Communicator& communicator) {
  try {
    return trainer.run();
  } catch (const std::exception&) {
    if (!communicator.is_alone()) write_rank_log(options, communicator, current_failure());
    throw;
  }
}

int train(Options options, Communicator& communicator) {
  if (!communicator.is_first()) options.quiet = true;
  std::optional<CheckpointInfo> start;
  std::unique_ptr<Trainer> trainer;
  try {
    tell_failure_from_stop(communicator,
                           [&] { trainer = make_trainer(options, start, communicator); });
  } catch (const Error& error) {
    if (!is_stop(error)) throw;
    const int exit_code =
        communicator.is_first() ? leave_stopped(options, start, error.what()) : stop_exit_code();
    communicator.leave(current_failure());
    return exit_code;
  }
  const int exit_code = trainer ? run(*trainer, options, communicator) : 0;
  communicator.leave({});
  return exit_code;
}

// One rank's end by a failure. The first rank says it, before it leaves: a launcher ends a rank
// soon after another has ended. The others speak where the first one cannot.
int fail_as_rank(Communicator& communicator, const Failure& failure) {
  const auto say = [&](const std::string& line) { fmt::print(stderr, "lathe: {}\n", line); };
  if (communicator.is_first()) say(failure.message);
  const bool is_told = communicator.leave(failure);
  if (!is_told) say(fmt::format("rank {}: {}", communicator.rank(), failure.message));
  return static_cast<int>(failure.code);
}

// Before a launcher does it, with a code of its own. MPI is not asked: it would wait for a rank
// that is dead.
[[noreturn]] void end_at_once(int exit_code) {
  std::fflush(nullptr);
  std::_Exit(exit_code);
}

}  // namespace

int train_as_rank(const Options& options, Communicator& communicator) {
  if (communicator.is_alone()) return train(options, communicator);
  try {
    return train(options, communicator);
  } catch (const std::exception&) {
    return fail_as_rank(communicator, current_failure());
  }
}

int train_command(const Options& options) {
  StopSignalWatch watch;
  constexpr double kNoLimit = std::numeric_limits<double>::infinity();
  stop_after(options.max_time.empty() ? kNoLimit : parse_duration("max-time", options.max_time));
  std::vector<JoinRank> ranks = ranks_of_process(options);
  const auto work = [&](Communicator& communicator) {
    return train_as_rank(options, communicator);
  };
  std::unique_ptr<Communicator> communicator;
  int exit_code = 0;
  if (ranks.size() > 1) {
    exit_code = run_in_threads(std::move(ranks), work);
  } else {
    communicator = ranks.front()();
    ranks.clear();
    exit_code = work(*communicator);
    if (communicator->is_alone()) return exit_code;
  }
  // A launcher signals all that are left when one has ended.
  watch.ignore_from_now_on();
  if (exit_code != 0) end_at_once(exit_code);
  return exit_code;
}

}  // namespace lathe
