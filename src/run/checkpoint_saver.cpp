#include "checkpoint_saver.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <new>
#include <system_error>
#include <thread>
#include <utility>

#include "base/clock.h"
#include "lathe/error.h"
#include "lathe/stop_signal.h"

namespace lathe {
namespace {

constexpr double kLongestWait = 60;   // seconds between two tries
constexpr double kWaitAfterStop = 2;  // the same after a stop signal

std::int64_t bytes_of(const CheckpointData& data) {
  std::int64_t bytes = 0;
  for (const auto* tensors : {&data.model, &data.optimizer}) {
    for (const NamedTensor& tensor : *tensors) bytes += tensor.memory.bytes();
  }
  return bytes;
}

// What a save does beside the checkpoint itself, once that is durable. No failure here is one of
// the save.
void follow_up(const std::filesystem::path& run_folder, std::int64_t step,
               const Retention& retention, std::vector<std::string>& remarks) {
  try {
    point_latest(run_folder, step);
    for (std::string& remark : prune_checkpoints(run_folder, retention)) {
      remarks.push_back(std::move(remark));
    }
  } catch (const Error& error) {
    remarks.emplace_back(error.what());
  }
}

// Why a save failed, in words. Rethrows what is no fault of the storage: a defect, or a rank that
// has gone.
std::string reason_of(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const Error& refused) {
    if (refused.code() == ExitCode::internal || refused.code() == ExitCode::peer) throw;
    return refused.what();
  } catch (const std::bad_alloc&) {
    return "out of memory";
  } catch (const std::system_error& refused) {
    return refused.what();
  }
}

void sleep_until(double time) {
  std::this_thread::sleep_for(std::chrono::duration<double>(std::clamp(time - now(), 0.0, 0.02)));
}

}  // namespace

CheckpointSaver::CheckpointSaver(Backend& backend, const SaverSpec& spec,
                                 std::function<CheckpointData()> collect,
                                 std::function<void(const std::string&)> say,
                                 Communicator& communicator)
    : backend_(backend),
      spec_(spec),
      collect_(std::move(collect)),
      say_(std::move(say)),
      communicator_(communicator),
      saved_step_(spec.saved_step) {
  spec_.background = spec_.background && communicator_.is_alone();
  const std::int64_t bytes =
      memory_bytes(spec_.background, backend_.memory().has_value(), bytes_of(collect_()));
  if (bytes > 0) {
    host_ = std::make_unique_for_overwrite<std::byte[]>(static_cast<std::size_t>(bytes));
  }
  if (spec_.background) thread_.emplace();
}

std::int64_t CheckpointSaver::memory_bytes(bool background, bool has_own_memory,
                                           std::int64_t checkpoint_bytes) {
  return background && has_own_memory ? checkpoint_bytes : 0;
}

void CheckpointSaver::save() {
  CheckpointData data = collect_();
  if (data.state.step == saved_step_ || data.state.step == running_step_) return;
  wait();
  if (!retry_at_) start(std::move(data));
}

void CheckpointSaver::follow() {
  if (thread_) {
    if (const auto outcome = thread_->poll()) take(*outcome);
  }
  if (retry_at_ && communicator_.any(now() >= *retry_at_)) start(collect_());
}

void CheckpointSaver::before_update() {
  if (!thread_) return;
  const Trace::Span waiting(spec_.trace, "wait_until_read", "saving");
  thread_->wait_until_read();
}

void CheckpointSaver::wait() {
  if (!thread_) return;
  if (const auto outcome = thread_->wait()) take(*outcome);
}

void CheckpointSaver::finish() {
  wait();
  std::optional<double> give_up_at;
  const std::int64_t step = collect_().state.step;
  while (saved_step_ != step) {
    if (communicator_.any(is_stop_requested()) && !give_up_at) {
      give_up_at = now() + spec_.stop_seconds;
      retry_at_.reset();
    }
    if (retry_at_ && give_up_at) {
      *retry_at_ = std::min({*retry_at_, now() + kWaitAfterStop, *give_up_at});
    }
    if (retry_at_ && communicator_.any(now() < *retry_at_)) {
      sleep_until(*retry_at_);
      continue;
    }
    start(collect_());
    wait();
    if (retry_at_ && give_up_at && communicator_.any(now() >= *give_up_at)) {
      throw Error(ExitCode::storage, fmt::format("step {} is not saved: {}", step, last_reason_));
    }
  }
}

void CheckpointSaver::give_up() noexcept {
  try {
    wait();
  } catch (const std::exception& error) {
    say_(fmt::format("warning: {}", error.what()));
  }
}

void CheckpointSaver::go_back_to(std::int64_t step) {
  saved_step_ = step;
  retry_at_.reset();
}

void CheckpointSaver::start(CheckpointData data) {
  spec_.before_save();
  retry_at_.reset();
  running_step_ = data.state.step;
  const Retention retention{.keep = spec_.keep,
                            .keep_every = spec_.keep_every,
                            .best_step = spec_.keep_best && data.state.best_val_loss
                                             ? std::optional(data.state.best_val_step)
                                             : std::nullopt};
  if (host_) move_to_host(data);
  SaveJob job = [this, data = std::move(data), retention](const std::function<void()>& all_read) {
    return write(data, retention, all_read);
  };
  if (thread_) return thread_->start(std::move(job));
  take(run_save(job, [] {}));
}

// All of a save that may go on beside training; returns remarks.
std::vector<std::string> CheckpointSaver::write(const CheckpointData& data,
                                                const Retention& retention,
                                                const std::function<void()>& all_read) {
  const Trace::Span saving(spec_.trace, "save", "saving", {"step", data.state.step});
  std::optional<Trace::Span> reading(std::in_place, spec_.trace, "read", "saving");
  const bool in_place = host_ || !backend_.memory();
  std::vector<std::string> remarks =
      save_checkpoint(spec_.run_folder, data,
                      {.read = in_place ? read_in_place() : download(backend_),
                       .all_read =
                           [&] {
                             reading.reset();
                             all_read();
                           },
                       .before_commit = [this] { std::ranges::for_each(spec_.logs, sync_file); }},
                      communicator_);
  if (communicator_.is_first()) {
    follow_up(spec_.run_folder, data.state.step, retention, remarks);
  }
  return remarks;
}

void CheckpointSaver::move_to_host(CheckpointData& data) {
  std::byte* to = host_.get();
  for (auto* tensors : {&data.model, &data.optimizer}) {
    for (NamedTensor& tensor : *tensors) {
      const Tensor& memory = tensor.memory;
      backend_.download(to, memory);
      const std::int64_t bytes = memory.bytes();
      tensor.memory = Tensor(to, memory.type(), {memory.count()});
      to += bytes;
    }
  }
}

void CheckpointSaver::take(const SaveOutcome& outcome) {
  const std::int64_t step = std::exchange(running_step_, -1);
  for (const std::string& remark : outcome.remarks) say_("warning: " + remark);
  if (outcome.error) return take_failure(step, reason_of(outcome.error));
  saved_step_ = step;
  if (const std::int64_t failures = std::exchange(failures_in_a_row_, 0); failures > 0) {
    say_(fmt::format("step {} is saved, after {} failed {}", step, failures,
                     failures == 1 ? "save" : "saves"));
  }
}

void CheckpointSaver::take_failure(std::int64_t step, const std::string& reason) {
  ++failed_saves_;
  last_reason_ = reason;
  if (++failures_in_a_row_ > spec_.retries) {
    throw Error(ExitCode::storage,
                fmt::format("saving has failed {} {} in a row, --save-retries is {}: {}",
                            failures_in_a_row_, failures_in_a_row_ == 1 ? "time" : "times",
                            spec_.retries, reason));
  }
  const double wait =
      std::min(kLongestWait, spec_.retry_seconds * std::exp2(failures_in_a_row_ - 1));
  retry_at_ = now() + wait;
  say_(fmt::format("warning: step {} is not saved, the next try comes in {:g} s: {}", step, wait,
                   reason));
}

}  // namespace lathe
