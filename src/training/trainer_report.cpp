// What a run says of itself: a line for a step, its result, its end.
#include <fmt/format.h>
#include <sys/resource.h>

#include <cmath>

#include "base/number_text.h"
#include "lathe/cuda.h"
#include "lathe/dataset.h"
#include "lathe/files.h"
#include "lathe/plot.h"
#include "run/session_facts.h"
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
  constexpr int kNotYet = 0;
  const std::string config = to_toml(options_);
  Checksum checksum;
  checksum.update(std::as_bytes(std::span(config)));
  result_.config_hash = fmt::format("{:016x}", checksum.value());
  result_.started = utc_now();
  finish("running", kNotYet);
  folder_->write_session(
      {.started = result_.started, .device = result_.device, .threads = options_.threads});
  if (is_new_) folder_->write_token_keys(data_.token_keys);
  if (data_.tokenizer) save_tokenizer(*data_.tokenizer, folder_->path());
  if (!is_new_) folder_->resumed(state_.step);
}

void Trainer::say_start() {
  folder_->say(fmt::format("lathe train | {} | {} | {} parameters", backend_->description(),
                           options_.precision, result_.parameters));
  if (options_.device == "auto" && !uses_gpu(options_)) folder_->say(why_no_gpu() + ": on the CPU");
  for (const std::string& message : data_.messages) folder_->say(message);
  for (const std::string& warning : data_.warnings) folder_->announce(warning);
  folder_->say(data_.summary);
  folder_->say(fmt::format("{} steps of {} tokens ({} micro-batches of {} x {}) | run folder {}",
                           horizon_.steps, horizon_.tokens_per_step, horizon_.micro_steps,
                           options_.micro_batch, options_.seq_len, options_.out));
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
  const auto [loss, norm, seconds] = step;
  const double lr = learning_rate(schedule_, state_.step - 1);
  const double rate = static_cast<double>(horizon_.tokens_per_step) / seconds;
  training_seconds_ += seconds;
  trained_tokens_ += horizon_.tokens_per_step;
  result_.train_loss = loss;
  folder_->training(
      {.step = state_.step, .loss = loss, .lr = lr, .grad_norm = norm, .tokens_per_second = rate});
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

void Trainer::finish(const std::string& status, int exit_code) {
  result_.status = status;
  result_.exit_code = exit_code;
  result_.step = state_.step;
  result_.tokens = state_.tokens;
  result_.best_val_loss = state_.best_val_loss;
  result_.best_val_step = state_.best_val_step;
  result_.tokens_per_second =
      training_seconds_ > 0 ? static_cast<double>(trained_tokens_) / training_seconds_ : 0;
  result_.wall_seconds = wall_seconds();
  result_.peak_memory_bytes = peak_memory_bytes();
  if (saved_step_ > 0) result_.checkpoint = fmt::format("checkpoints/step-{:08}", saved_step_);
  folder_->write_result(result_);
}

// What ends the run is told by whoever catches it, whether or not it can be written down.
void Trainer::fail(const Failure& failure) {
  result_.error = failure.message;
  try {
    finish("failed", static_cast<int>(failure.code));
  } catch (const std::exception& error) {
    fmt::print(stderr, "lathe: {}\n", error.what());
  }
}

void Trainer::show_end() {
  constexpr int kColumns = 96, kRows = 18;
  folder_->say(plot_terminal({.title = "loss, nats per token",
                              .x_label = "step",
                              .y_label = "loss",
                              .curves = read_curves(options_.out),
                              .floor = result_.floor,
                              .floor_label = "floor of the stories' grammar"},
                             kColumns, kRows));
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
