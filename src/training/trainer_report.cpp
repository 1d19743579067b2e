// What a run says of itself: a line for a step, its result, its end.
#include <fmt/format.h>
#include <sys/resource.h>

#include <cmath>

#include "base/number_text.h"
#include "lathe/cuda.h"
#include "lathe/dataset.h"
#include "lathe/error.h"
#include "lathe/plot.h"
#include "lathe/stop_signal.h"
#include "run/retention.h"
#include "trainer.h"

namespace lathe {
namespace {

std::int64_t peak_memory_bytes() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  return std::int64_t{usage.ru_maxrss} * 1024;
}

}  // namespace

// From here on result.json says what becomes of the run.
void Trainer::write_start() {
  constexpr int kNoCodeYet = 0;
  const std::string no_reason_yet;
  describe("running", no_reason_yet, kNoCodeYet);
  folder_->write_result(result_);
  folder_->write_session(result_.device, options_.threads);
  folder_->write_token_keys(data_.token_keys);
  if (data_.tokenizer && communicator_.is_first()) {
    save_tokenizer(*data_.tokenizer, folder_->path());
  }
  if (!is_new_) folder_->resumed(state_.step);
}

void Trainer::say_start() {
  if (!communicator_.is_first()) return;
  folder_->say(fmt::format("lathe train | {} | {} | {} parameters", backend_->description(),
                           options_.precision, result_.parameters));
  if (options_.device == "auto" && !uses_gpu(options_)) folder_->say(why_no_gpu() + ": on the CPU");
  for (const std::string& message : data_.messages) folder_->say(message);
  for (const std::string& warning : data_.warnings) folder_->announce(warning);
  warn_of_little_space();
  folder_->say(data_.summary);
  folder_->say(fmt::format(
      "{} steps of {} tokens ({} micro-batches of {} x {}{}) | run folder {}", horizon_.steps,
      horizon_.tokens_per_step, horizon_.micro_steps, options_.micro_batch, options_.seq_len,
      communicator_.size() == 1 ? "" : fmt::format(" on each of {} ranks", communicator_.size()),
      options_.out));
  if (initial_) {
    folder_->say(
        fmt::format("starts from {}: {}", initial_->path.string(), title(initial_->format)));
    for (const std::string& remark : initial_->remarks) folder_->announce(remark);
  }
  if (!is_new_) {
    folder_->say(fmt::format("resumed at step {}", state_.step));
    for (const auto& path : set_aside_checkpoints(folder_->path(), state_.step)) {
      folder_->say(fmt::format("set aside, from a later step: {}", path.string()));
    }
  }
}

void Trainer::log_step(const Step& step) {
  const auto [loss, norm, seconds, updated] = step;
  const double lr = learning_rate(schedule_, state_.step - 1);
  const double rate = static_cast<double>(horizon_.tokens_per_step) / seconds;
  training_seconds_ += seconds;
  trained_tokens_ += horizon_.tokens_per_step;
  const StepMetrics metrics{.step = state_.step,
                            .loss = loss,
                            .lr = lr,
                            .grad_norm = norm,
                            .tokens_per_second = rate,
                            .skipped = !updated};
  folder_->training(metrics);
  if (!updated) return;
  observe(metrics);
  result_.train_loss = loss;
  if (state_.step == 1 && is_new_ && !initial_) show_start(loss);
  if (is_due(options_.log_every) || state_.step == horizon_.steps) {
    const double average = static_cast<double>(trained_tokens_) / training_seconds_;
    const double left =
        static_cast<double>((horizon_.steps - state_.step) * horizon_.tokens_per_step);
    folder_->say(fmt::format(
        "step {}/{} {:.1f}% | loss {:.4f} | norm {:.2f} | lr {:.1e} | {:.0f} ms | {} tok/s | eta "
        "{}",
        state_.step, horizon_.steps,
        100.0 * static_cast<double>(state_.step) / static_cast<double>(horizon_.steps), loss, norm,
        lr, 1e3 * seconds, rate_text(rate), duration_text(left / average)));
  }
}

void Trainer::observe(const StepMetrics& metrics) {
  const auto [step, loss, lr, norm, rate, skipped] = metrics;
  StopRuleState& state = state_.stop_rules;
  stop_rules_.observe(state, step, StopMetric::train_loss, loss);
  stop_rules_.observe(state, step, StopMetric::grad_norm, norm);
  stop_rules_.observe(state, step, StopMetric::tokens_per_second, rate);
}

// A fresh model knows nothing: its loss is that of a uniform guess.
void Trainer::show_start(double loss) {
  constexpr double kLargeGap = 0.5;
  const double uniform_loss = std::log(static_cast<double>(config_.vocab));
  if (std::abs(loss - uniform_loss) > kLargeGap) {
    folder_->announce(
        fmt::format("warning: the first loss is {:.3f}, far from ln({}) = {:.3f} of a "
                    "uniform guess",
                    loss, config_.vocab, uniform_loss));
  }
}

// The run is over, or stops here: its last line, its last sample, its result.
void Trainer::end_run() {
  const bool is_over = state_.step == horizon_.steps || has_ended();
  if (is_over) show_sample();
  if (must_stop()) {
    folder_->announce(
        fmt::format("stopped by {} after step {}; go on with --resume", stop_cause(), state_.step));
    finish("stopped", stop_reason(), stop_exit_code());
  } else if (!is_over) {
    folder_->announce(fmt::format("stopped at step {}; go on with --resume", state_.step));
    finish("stopped", "stop_at_step", 0);
  } else {
    finish("finished", has_ended() ? state_.stop_rules.end_reason : "steps", 0);
    show_end();
  }
}

void Trainer::finish(const std::string& status, const std::string& reason, int exit_code) {
  finish_trace();
  describe(status, reason, exit_code);
  require_all_written();
  folder_->write_result(result_);
  require_all_written();
}

void Trainer::describe(const std::string& status, const std::string& reason, int exit_code) {
  result_.status = status;
  result_.end_reason = reason;
  result_.end_detail = reason == state_.stop_rules.end_reason ? state_.stop_rules.end_detail : "";
  result_.skipped_steps = state_.guard.skipped_steps;
  result_.rollbacks = state_.guard.rollbacks;
  result_.exit_code = exit_code;
  result_.step = state_.step;
  result_.tokens = state_.tokens;
  result_.best_val_loss = state_.best_val_loss;
  result_.best_val_step = state_.best_val_step;
  result_.tokens_per_second =
      training_seconds_ > 0 ? static_cast<double>(trained_tokens_) / training_seconds_ : 0;
  result_.wall_seconds = wall_seconds();
  result_.peak_memory_bytes = peak_memory_bytes();
  result_.failed_saves = saver_->failed_saves();
  if (saver_->saved_step() > 0) {
    result_.checkpoint = fmt::format("checkpoints/step-{:08}", saver_->saved_step());
  }
}

// A run that had nowhere to put its metrics has not gone well, whatever becomes of its weights.
void Trainer::require_all_written() {
  const std::string problem = folder_->find_unwritten();
  if (problem.empty() || result_.exit_code != 0) return;
  fmt::print(stderr, "lathe: {}\n", problem);
  result_.status = "failed";
  result_.end_reason = "error";
  result_.error = problem;
  result_.exit_code = static_cast<int>(ExitCode::storage);
}

// What ends the run is told by whoever catches it, whether or not it can be written down.
void Trainer::fail(const Failure& failure) {
  result_.error = failure.message;
  try {
    finish("failed", "error", static_cast<int>(failure.code));
  } catch (const std::exception& error) {
    fmt::print(stderr, "lathe: {}\n", error.what());
  }
}

void Trainer::show_end() {
  if (!communicator_.is_first()) return;
  constexpr int kColumns = 96, kRows = 18;
  folder_->say(plot_terminal({.title = "loss, nats per token",
                              .x_label = "step",
                              .y_label = "loss",
                              .curves = read_curves(options_.out),
                              .floor = result_.floor,
                              .floor_label = "floor of the stories' grammar"},
                             kColumns, kRows));
  if (has_ended()) {
    folder_->announce(
        fmt::format("ended by {}: {}", state_.stop_rules.end_reason, state_.stop_rules.end_detail));
  }
  std::string line = fmt::format("finished {} steps, {} tokens in {}", state_.step, state_.tokens,
                                 duration_text(wall_seconds()));
  if (result_.val_loss) line += fmt::format(" | val loss {:.4f}", *result_.val_loss);
  if (result_.floor) {
    line +=
        fmt::format(" | floor {:.4f} ({:+.1f} %, standard error {:.4f})", *result_.floor,
                    100 * (*result_.val_loss / *result_.floor - 1), *result_.floor_standard_error);
  }
  folder_->announce(line + fmt::format(" | {}", (folder_->path() / result_.checkpoint).string()));
}

}  // namespace lathe
