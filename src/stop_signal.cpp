#include "lathe/stop_signal.h"

#include <unistd.h>

#include <csignal>
#include <initializer_list>

namespace lathe {
namespace {

// The one variable a signal handler may share with the program.
volatile std::sig_atomic_t caught = 0;

void remember(int signal) {
  if (caught != 0) _exit(128 + signal);
  caught = signal;
}

void handle(void (*handler)(int)) {
  struct sigaction action = {};
  action.sa_handler = handler;
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGXCPU}) {
    sigaction(signal, &action, nullptr);
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
