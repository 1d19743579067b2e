#include "lathe/stop_signal.h"

#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdint>
#include <ctime>
#include <initializer_list>

namespace lathe {
namespace {

// What a signal handler may share with the program.
volatile std::sig_atomic_t caught = 0;
std::atomic<std::int64_t> caught_at = 0;  // milliseconds
static_assert(std::atomic<std::int64_t>::is_always_lock_free);

std::int64_t now() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return std::int64_t{time.tv_sec} * 1000 + time.tv_nsec / 1'000'000;
}

// timeout(1) and others signal a process and then its group: what comes at once is one request.
void remember(int signal) {
  constexpr std::int64_t kAtOnce = 500;
  if (caught == 0) {
    caught_at = now();
    caught = signal;
  } else if (now() - caught_at > kAtOnce) {
    _exit(128 + signal);
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
  handle(remember);
}

StopSignalWatch::~StopSignalWatch() {
  handle(SIG_DFL);
}

int stop_signal() {
  return caught;
}

}  // namespace lathe
