#include "thread_team.h"

#include <omp.h>

namespace lathe {
namespace {

// Waits until `value` is no longer `old`: some tens of microseconds awake, then asleep.
void wait_for_change(const std::atomic<std::uint32_t>& value, std::uint32_t old) {
  constexpr int kSpins = 200;
  for (int i = 0; i < kSpins; ++i) {
    if (value.load(std::memory_order_acquire) != old) return;
    std::this_thread::yield();
  }
  value.wait(old, std::memory_order_acquire);
}

}  // namespace

ThreadTeam::ThreadTeam(int threads) {
  for (int i = 1; i < threads; ++i) workers_.emplace_back([this] { work(); });
}

ThreadTeam::~ThreadTeam() {
  ends_ = true;
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadTeam::run_all(std::int64_t count, Call call, const void* task) {
  call_ = call;
  task_ = task;
  count_ = count;
  next_.store(0, std::memory_order_relaxed);
  const bool is_shared = count > 1 && !workers_.empty();
  if (is_shared) {
    working_.store(static_cast<std::uint32_t>(workers_.size()), std::memory_order_relaxed);
    generation_.fetch_add(1, std::memory_order_release);
    generation_.notify_all();
  }
  take_tasks();
  while (is_shared) {
    const std::uint32_t working = working_.load(std::memory_order_acquire);
    if (working == 0) break;
    wait_for_change(working_, working);
  }
}

void ThreadTeam::work() {
  omp_set_num_threads(1);  // of this thread: libraries called by a task shall not start a team
  for (std::uint32_t seen = 0;; ++seen) {
    wait_for_change(generation_, seen);
    if (ends_) return;
    take_tasks();
    if (working_.fetch_sub(1, std::memory_order_acq_rel) == 1) working_.notify_one();
  }
}

void ThreadTeam::take_tasks() {
  for (;;) {
    const std::int64_t i = next_.fetch_add(1, std::memory_order_relaxed);
    if (i >= count_) return;
    call_(task_, i);
  }
}

}  // namespace lathe
