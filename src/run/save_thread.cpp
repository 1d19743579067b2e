#include "save_thread.h"

#include <pthread.h>

#include <csignal>
#include <utility>

namespace lathe {

SaveOutcome run_save(const SaveJob& job, const std::function<void()>& all_read) {
  SaveOutcome outcome;
  try {
    outcome.remarks = job(all_read);
  } catch (...) {
    outcome.error = std::current_exception();
  }
  return outcome;
}

// Signals are the other threads' business: none interrupts what is written here.
SaveThread::SaveThread() {
  sigset_t all{}, before{};
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { work(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

SaveThread::~SaveThread() {
  {
    const std::scoped_lock lock(mutex_);
    is_ending_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void SaveThread::start(SaveJob job) {
  {
    const std::scoped_lock lock(mutex_);
    job_ = std::move(job);
    is_reading_ = true;
  }
  changed_.notify_all();
}

void SaveThread::wait_until_read() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return !is_reading_; });
}

std::optional<SaveOutcome> SaveThread::poll() {
  const std::scoped_lock lock(mutex_);
  return std::exchange(outcome_, std::nullopt);
}

std::optional<SaveOutcome> SaveThread::wait() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return !job_; });
  return std::exchange(outcome_, std::nullopt);
}

void SaveThread::work() {
  pthread_setname_np(pthread_self(), "saving");
  std::unique_lock lock(mutex_);
  const auto all_read = [this] {
    {
      const std::scoped_lock reading(mutex_);
      is_reading_ = false;
    }
    changed_.notify_all();
  };
  for (;;) {
    changed_.wait(lock, [&] { return job_ || is_ending_; });
    if (!job_) return;
    const SaveJob& job = job_;  // stays as it is until its outcome is there
    lock.unlock();
    SaveOutcome outcome = run_save(job, all_read);
    all_read();  // also of a job that failed before
    lock.lock();
    outcome_ = std::move(outcome);
    job_ = nullptr;
    changed_.notify_all();
  }
}

}  // namespace lathe
