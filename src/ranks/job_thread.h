// A thread that does what it is given, one job after another: communication that goes on beside the
// backward pass.
#pragma once

#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <stop_token>
#include <thread>

namespace lathe {

class JobThread {
 public:
  using Job = std::function<void()>;

  JobThread();

  void start(Job job);
  // Until all are done. Throws what the first that failed has thrown; those behind it are left out.
  void wait();
  // What waits is left out; what is under way ends first, however.
  void stop() noexcept;

 private:
  void work(const std::stop_token& stop);

  std::mutex mutex_;  // guards the three below
  std::condition_variable_any changed_;
  std::deque<Job> jobs_;  // the first is under way
  std::exception_ptr failure_;

  std::jthread thread_;  // last: it ends before what it uses is gone
};

}  // namespace lathe
