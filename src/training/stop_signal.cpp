#include "lathe/stop_signal.h"

#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <cmath>
#include <csignal>
#include <cstdint>
#include <ctime>
#include <initializer_list>
#include <limits>

namespace lathe {
namespace {

// What a signal handler may share with the program, whose ranks may be threads.
std::atomic<int> caught = 0;
std::atomic<std::int64_t> caught_at = 0;  // milliseconds
static_assert(std::atomic<int>::is_always_lock_free);
static_assert(std::atomic<std::int64_t>::is_always_lock_free);

constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();
std::atomic<std::int64_t> end_of_time = kNever;  // milliseconds
std::atomic<bool> is_watching = false;
std::atomic<bool> is_taken_over = false;  // `caught` is another rank's signal

constexpr int kSignals = 128;  // exit codes above it are those of signals

std::int64_t now_in_milliseconds() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return std::int64_t{time.tv_sec} * 1000 + time.tv_nsec / 1'000'000;
}

// timeout(1) and others signal a process and then its group: what comes at once is one request.
void remember(int signal) {
  constexpr std::int64_t kAtOnce = 500;
  if (caught == 0 || is_taken_over) {
    is_taken_over = false;
    caught_at = now_in_milliseconds();
    caught = signal;
  } else if (now_in_milliseconds() - caught_at > kAtOnce) {
    _exit(kSignals + signal);
  }
}

bool is_ignored(int signal) {
  struct sigaction action = {};
  return sigaction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_IGN;
}

// nohup(1) has HUP ignored, and so it stays. INT, which a shell has ignored in what it starts with
// "&", stops a run all the same.
void handle(void (*handler)(int)) {
  struct sigaction action = {};
  action.sa_handler = handler;
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGXCPU}) {
    if (signal != SIGHUP || !is_ignored(signal)) sigaction(signal, &action, nullptr);
  }
}

}  // namespace

void watch_stop_signals() {
  caught = 0;
  is_taken_over = false;
  end_of_time = kNever;
  is_watching = true;
  handle(remember);
}

StopSignalWatch::StopSignalWatch() : is_outermost_(!is_watching) {
  if (is_outermost_) watch_stop_signals();
}

StopSignalWatch::~StopSignalWatch() {
  if (!is_outermost_) return;
  handle(SIG_DFL);
  is_watching = false;
}

void StopSignalWatch::ignore_from_now_on() {
  handle(SIG_IGN);
  is_outermost_ = false;
}

void stop_after(double seconds) {
  const bool is_limit = std::isfinite(seconds);
  end_of_time =
      is_limit ? now_in_milliseconds() + static_cast<std::int64_t>(seconds * 1000) : kNever;
}

bool is_stop_requested() {
  return caught != 0 || (end_of_time != kNever && now_in_milliseconds() >= end_of_time);
}

int stop_signal() {
  return caught;
}

int stop_exit_code() {
  return caught != 0 ? kSignals + caught : static_cast<int>(ExitCode::time_limit);
}

std::string stop_cause() {
  return caught != 0 ? fmt::format("signal {}", caught.load()) : "--max-time";
}

std::string stop_reason() {
  return caught != 0 ? "signal" : "max_time";
}

bool is_stop_code(int exit_code) {
  return exit_code > kSignals || exit_code == static_cast<int>(ExitCode::time_limit);
}

void take_over_stop(int exit_code) {
  if (is_stop_requested()) return;
  if (exit_code <= kSignals) {
    end_of_time = now_in_milliseconds();
    return;
  }
  is_taken_over = true;
  caught = exit_code - kSignals;
}

void require_no_stop(const std::string& what) {
  if (!is_stop_requested()) return;
  throw Error(static_cast<ExitCode>(stop_exit_code()),
              fmt::format("{}: stopped by {}", what, stop_cause()));
}

bool is_stop(const Error& error) {
  return is_stop_requested() && is_stop_code(static_cast<int>(error.code()));
}

}  // namespace lathe
