// Signals that ask a run to stop: it ends its step, saves, and exits with 128 + signal.
#pragma once

namespace lathe {

// From here on TERM, INT, HUP, USR1, USR2 and XCPU are remembered; HUP is not where the process has
// begun with it ignored (nohup). A second one, half a second later, ends the process at once.
void watch_stop_signals();

// Watches as long as it lives; then a signal ends the process again.
class StopSignalWatch {
 public:
  StopSignalWatch() { watch_stop_signals(); }
  StopSignalWatch(const StopSignalWatch&) = delete;
  StopSignalWatch& operator=(const StopSignalWatch&) = delete;
  ~StopSignalWatch();
};

// The signal that asked to stop, or 0.
int stop_signal();

}  // namespace lathe
