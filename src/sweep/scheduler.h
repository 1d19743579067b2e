// Runs the runs of a sweep that are due, some at a time, each as a process of this program.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "child_process.h"
#include "sweep_record.h"

namespace lathe {

struct SchedulerSpec {
  std::filesystem::path program = kOurProgram;  // that takes the command line of lathe train
  std::size_t jobs = 1;                         // at a time
  std::int64_t retries = 0;                     // of a run that has failed
  std::int64_t threads = 1;                     // of each run that does not say how many
  std::vector<std::string> gpus;                // visible_gpus; empty: none is handed out
  std::vector<std::string> hidden_variables;    // of the environment, that are not for the runs
  std::function<void()> changed;                // after each change of a run's record
  std::function<void(const std::string&)> say;
};

class Scheduler {
 public:
  Scheduler(SweepRecord& sweep, SchedulerSpec spec);

  // Until every due run has ended or, once it is asked to stop (lathe/stop_signal.h), every run
  // that was going has saved and ended.
  void run();

 private:
  struct Job {
    RunRecord* record;
    ChildProcess process;
    double began;
    std::uint64_t log_bytes;  // of what earlier processes have said
  };

  void start_waiting();
  std::optional<RunRecord*> next();
  void start(RunRecord& record, std::size_t slot);
  ChildSpec child_of(const RunRecord& record, std::size_t slot) const;
  void take_ended();
  void end(RunRecord& record, const std::string& status, int code, const std::string& error,
           double seconds);
  bool tries_again(const RunRecord& record) const;
  void forward_stop();
  std::size_t running() const;
  std::string counts() const;
  std::string eta() const;

  SweepRecord& sweep_;
  SchedulerSpec spec_;
  std::deque<RunRecord*> waiting_;
  std::vector<std::optional<Job>> slots_;
  bool has_forwarded_ = false, has_said_wait_ = false;
  double began_ = 0;
  std::vector<double> seconds_;  // that each process took that has ended
};

}  // namespace lathe
