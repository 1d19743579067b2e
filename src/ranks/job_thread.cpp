#include "job_thread.h"

#include <utility>

namespace lathe {

JobThread::JobThread() : thread_([this](const std::stop_token& stop) { work(stop); }) {}

void JobThread::start(Job job) {
  const std::lock_guard lock(mutex_);
  if (failure_) return;
  jobs_.push_back(std::move(job));
  changed_.notify_all();
}

void JobThread::wait() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return jobs_.empty(); });
  if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
}

void JobThread::stop() noexcept {
  std::unique_lock lock(mutex_);
  while (jobs_.size() > 1) jobs_.pop_back();
  changed_.wait(lock, [this] { return jobs_.empty(); });
}

void JobThread::work(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  while (changed_.wait(lock, stop, [this] { return !jobs_.empty(); })) {
    const Job& job = jobs_.front();  // stays where it is while others are added
    lock.unlock();
    std::exception_ptr failure;
    try {
      job();
    } catch (...) {
      failure = std::current_exception();
    }
    lock.lock();
    jobs_.pop_front();
    if (failure) {
      failure_ = failure;
      jobs_.clear();
    }
    changed_.notify_all();
  }
}

}  // namespace lathe
