// A mutex that is given to threads in the order in which they asked: one that launches kernel after
// kernel must not keep the others out.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>

namespace lathe::ptx {

class FairMutex {
 public:
  void lock() {
    std::unique_lock<std::mutex> guard(mutex_);
    const std::uint64_t turn = last_++;
    changed_.wait(guard, [&] { return turn == served_; });
  }

  void unlock() {
    {
      const std::lock_guard<std::mutex> guard(mutex_);
      ++served_;
    }
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::uint64_t last_ = 0, served_ = 0;
};

}  // namespace lathe::ptx
