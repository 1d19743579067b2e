// A thread that saves while training goes on: one job at a time, which first reads what training
// will change and then has all the time it needs.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace lathe {

// How a save has ended.
struct SaveOutcome {
  std::exception_ptr error;          // nullptr: it is durable
  std::vector<std::string> remarks;  // what went wrong and does no harm
};

// Calls its argument when it has read all; returns remarks.
using SaveJob = std::function<std::vector<std::string>(const std::function<void()>& all_read)>;

SaveOutcome run_save(const SaveJob& job, const std::function<void()>& all_read);

class SaveThread {
 public:
  SaveThread();
  ~SaveThread();  // when the job has ended
  SaveThread(const SaveThread&) = delete;
  SaveThread& operator=(const SaveThread&) = delete;

  void start(SaveJob job);            // the outcome of the one before has been taken
  void wait_until_read();             // at once where no job is running
  std::optional<SaveOutcome> poll();  // of a job that has ended, once
  std::optional<SaveOutcome> wait();  // for the job that runs; nullopt: there was none

 private:
  void work();

  std::mutex mutex_;
  std::condition_variable changed_;
  SaveJob job_;  // that waits or runs
  bool is_reading_ = false, is_ending_ = false;
  std::optional<SaveOutcome> outcome_;
  std::thread thread_;
};

}  // namespace lathe
