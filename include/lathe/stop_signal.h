// What asks a command to stop: a signal, or the end of its time. A run that is asked ends its
// micro-step, saves, and exits with stop_exit_code(). Everything that takes long asks.
#pragma once

#include <string>

#include "lathe/error.h"

namespace lathe {

// From here on TERM, INT, HUP, USR1, USR2 and XCPU are remembered; HUP is not where the process has
// begun with it ignored (nohup). A second one, half a second later, ends the process at once.
// Forgets what has asked before.
void watch_stop_signals();

// Watches as long as it lives; then a signal ends the process again. Within another it does
// nothing.
class StopSignalWatch {
 public:
  StopSignalWatch();
  StopSignalWatch(const StopSignalWatch&) = delete;
  StopSignalWatch& operator=(const StopSignalWatch&) = delete;
  ~StopSignalWatch();

  // The end has begun: signals are ignored from here on, and do not change the exit code.
  void ignore_from_now_on();

 private:
  bool is_outermost_;
};

// From now on, in place of an earlier limit; infinity is none.
void stop_after(double seconds);

bool is_stop_requested();

// The signal that asked to stop, or 0.
int stop_signal();

// Of a command that was asked to stop: 128 + signal, or ExitCode::time_limit.
int stop_exit_code();
std::string stop_cause();   // for people: "signal 15", "--max-time"
std::string stop_reason();  // for result.json: "signal", "max_time"

// Whether that is the code of a command that was asked to stop.
bool is_stop_code(int exit_code);
// Another rank was asked, which would end with that code: from now on this process is asked too.
void take_over_stop(int exit_code);

// Error with the exit code of what asked to stop, if anything has: "WHAT: stopped by signal 15".
void require_no_stop(const std::string& what);
bool is_stop(const Error& error);  // whether it is one of these

}  // namespace lathe
