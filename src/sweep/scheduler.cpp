#include "scheduler.h"

#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <ctime>
#include <numeric>
#include <system_error>
#include <utility>

#include "base/clock.h"
#include "base/number_text.h"
#include "child_log.h"
#include "gpu_slots.h"
#include "lathe/error.h"
#include "lathe/folder_lock.h"
#include "lathe/stop_signal.h"

namespace lathe {
namespace {

// Makes the end of a process something to wait for.
class ChildSignal {
 public:
  ChildSignal() {
    std::signal(SIGCHLD, SIG_DFL);  // where it is ignored, no exit code is kept
    sigemptyset(&set_);
    sigaddset(&set_, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set_, &before_);
  }
  ChildSignal(const ChildSignal&) = delete;
  ChildSignal& operator=(const ChildSignal&) = delete;
  ~ChildSignal() { sigprocmask(SIG_SETMASK, &before_, nullptr); }

  // Until a process ends, a signal comes, or it is time to look at the clock again.
  void wait() const {
    constexpr timespec kMost{.tv_sec = 0, .tv_nsec = 200'000'000};
    sigtimedwait(&set_, nullptr, &kMost);
  }

 private:
  sigset_t set_{}, before_{};
};

std::string how_far(const RunSummary& run) {
  const auto number = [&](const char* key) {
    const auto found = run.facts.find(key);
    return found != run.facts.end() && found->is_number() ? std::optional(found->get<double>())
                                                          : std::nullopt;
  };
  std::string text;
  if (const auto step = number("step")) text += fmt::format(", step {:.0f}", *step);
  if (const auto steps = number("steps"); steps && !text.empty())
    text += fmt::format("/{:.0f}", *steps);
  if (const auto loss = number("best_val_loss"))
    text += fmt::format(", best_val_loss {:.4f}", *loss);
  return text;
}

// What the end of a process makes of its run.
std::string status_after(const ChildProcess::Exit& exit, const RunSummary& summary) {
  if (exit.is_killed) return "killed";
  if (exit.code >= 128 || exit.code == static_cast<int>(ExitCode::time_limit)) return "stopped";
  const auto said = summary.facts.find("status");
  const bool is_said = said != summary.facts.end() && said->is_string();
  return exit.code == 0 && is_said ? said->get<std::string>() : "failed";
}

}  // namespace

Scheduler::Scheduler(SweepRecord& sweep, SchedulerSpec spec)
    : sweep_(sweep), spec_(std::move(spec)), slots_(spec_.jobs) {
  for (RunRecord& record : sweep_.runs) {
    if (is_due(record)) waiting_.push_back(&record);
  }
}

void Scheduler::run() {
  const ChildSignal child_signal;
  began_ = now();
  while (true) {
    take_ended();
    if (is_stop_requested()) {
      forward_stop();
      waiting_.clear();
    } else {
      start_waiting();
    }
    if (running() == 0 && waiting_.empty()) return;
    child_signal.wait();
  }
}

void Scheduler::start_waiting() {
  for (std::size_t slot = 0; slot < slots_.size(); ++slot) {
    if (slots_[slot]) continue;
    const std::optional<RunRecord*> record = next();
    if (!record) return;
    start(**record, slot);
  }
}

// The first whose folder no process holds. One of a sweep that was killed may still be saving: it
// is waited for, not for ever, and then the run itself says that it cannot start.
std::optional<RunRecord*> Scheduler::next() {
  constexpr double kPatience = 60;  // seconds
  const auto is_free = [&](const RunRecord* record) {
    return now() - began_ > kPatience || !FolderLock::is_held(record->run->folder);
  };
  const auto found = std::ranges::find_if(waiting_, is_free);
  if (found == waiting_.end()) {
    if (!waiting_.empty() && !std::exchange(has_said_wait_, true)) {
      spec_.say(fmt::format("wait: another process is writing to {}; trying for a minute",
                            waiting_.front()->run->folder.string()));
    }
    return std::nullopt;
  }
  RunRecord* record = *found;
  waiting_.erase(found);
  return record;
}

ChildSpec Scheduler::child_of(const RunRecord& record, std::size_t slot) const {
  ChildSpec child{.program = spec_.program,
                  .arguments = record.run->arguments,
                  .environment = {},
                  .log = log_of(*record.run)};
  if (record.run->options.threads == 0) {
    child.arguments.push_back(fmt::format("--threads={}", spec_.threads));
  }
  for (const std::string& name : spec_.hidden_variables) child.environment[name] = std::nullopt;
  if (const auto gpu = gpu_of_slot(spec_.gpus, slot)) child.environment[kVisibleGpus] = *gpu;
  return child;
}

void Scheduler::start(RunRecord& record, std::size_t slot) {
  const ChildSpec child = child_of(record, slot);
  const auto gpu = gpu_of_slot(spec_.gpus, slot);
  ++record.attempts;
  try {
    const std::uint64_t log_bytes = begin_log(child.log, child.arguments, gpu);
    slots_[slot] = Job{&record, ChildProcess(child), now(), log_bytes};
  } catch (const Error& error) {
    end(record, "failed", static_cast<int>(error.code()), error.what(), 0);
    return;
  }
  spec_.say(fmt::format("start {}: {} of {}{}{}{}, log {}", record.run->name,
                        record.run - sweep_.runs.front().run + 1, sweep_.runs.size(),
                        record.attempts > 1 ? fmt::format(", attempt {}", record.attempts) : "",
                        how_far(record.summary), gpu ? fmt::format(", GPU {}", *gpu) : "",
                        child.log.string()));
  record.status = "running";
  record.exit_code = std::nullopt;
  record.error = "";
  spec_.changed();
}

void Scheduler::take_ended() {
  for (std::optional<Job>& slot : slots_) {
    const auto exit = slot ? slot->process.ended() : std::nullopt;
    if (!exit) continue;
    const Job job = std::move(*slot);
    slot.reset();
    look_again(*job.record);
    const std::string status = status_after(*exit, job.record->summary);
    const std::string said =
        status == "failed" ? last_error(log_of(*job.record->run), job.log_bytes) : "";
    end(*job.record, status, exit->code, said, now() - job.began);
  }
}

void Scheduler::end(RunRecord& record, const std::string& status, int code,
                    const std::string& error, double seconds) {
  record.status = status;
  record.exit_code = code;
  record.error = error;
  seconds_.push_back(seconds);
  const bool again = tries_again(record);
  if (again) waiting_.push_back(&record);
  spec_.say(fmt::format("end {}: {}{}{}{}, {}{}; {}", record.run->name, status,
                        code == 0 ? "" : fmt::format(", exit code {}", code),
                        error.empty() ? "" : fmt::format(", {}", error), how_far(record.summary),
                        duration_text(seconds), again ? ", will be tried again" : "", counts()));
  spec_.changed();
}

// Not what would go the same way again.
bool Scheduler::tries_again(const RunRecord& record) const {
  const bool has_failed = record.status == "failed" || record.status == "killed";
  const bool is_certain = record.exit_code == static_cast<int>(ExitCode::usage) ||
                          record.exit_code == static_cast<int>(ExitCode::diverged);
  return has_failed && !is_certain && !is_stop_requested() && record.attempts <= spec_.retries;
}

// Once: a second one would end a run before it has saved.
void Scheduler::forward_stop() {
  if (std::exchange(has_forwarded_, true)) return;
  const int signal = stop_signal() != 0 ? stop_signal() : SIGTERM;
  spec_.say(fmt::format("stopped by {}: {} runs are to save and end", stop_cause(), running()));
  for (const std::optional<Job>& slot : slots_) {
    if (slot) slot->process.send(signal);
  }
}

std::size_t Scheduler::running() const {
  return static_cast<std::size_t>(
      std::ranges::count_if(slots_, [](const auto& slot) { return slot.has_value(); }));
}

std::string Scheduler::counts() const {
  const std::size_t left = running() + waiting_.size();
  return fmt::format("{} of {} done, {} running, {} waiting{}", sweep_.runs.size() - left,
                     sweep_.runs.size(), running(), waiting_.size(), eta());
}

// As if all that is left took as long as what has ended, on the mean.
std::string Scheduler::eta() const {
  if (waiting_.empty() && running() == 0) return "";
  const double mean =
      std::accumulate(seconds_.begin(), seconds_.end(), 0.0) / static_cast<double>(seconds_.size());
  double left = mean * static_cast<double>(waiting_.size());
  for (const std::optional<Job>& slot : slots_) {
    if (slot) left += std::max(0.0, mean - (now() - slot->began));
  }
  return fmt::format(", eta {}", duration_text(left / static_cast<double>(slots_.size())));
}

}  // namespace lathe
