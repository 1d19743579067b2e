#include "thread_team.h"

#include <omp.h>

#include <algorithm>

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

ThreadTeam::ThreadTeam(int threads) : shares_(static_cast<std::size_t>(std::max(threads, 1))) {
  for (std::size_t i = 1; i < shares_.size(); ++i) workers_.emplace_back([this, i] { work(i); });
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
  const auto threads = static_cast<std::int64_t>(shares_.size());
  for (std::int64_t t = 0; t < threads; ++t) {
    Share& share = shares_[static_cast<std::size_t>(t)];
    share.next.store(count * t / threads, std::memory_order_relaxed);
    share.end = count * (t + 1) / threads;
  }
  const bool is_shared = count > 1 && !workers_.empty();
  if (is_shared) {
    working_.store(static_cast<std::uint32_t>(workers_.size()), std::memory_order_relaxed);
    generation_.fetch_add(1, std::memory_order_release);
    generation_.notify_all();
  }
  take_tasks(0);
  while (is_shared) {
    const std::uint32_t working = working_.load(std::memory_order_acquire);
    if (working == 0) break;
    wait_for_change(working_, working);
  }
}

void ThreadTeam::work(std::size_t own) {
  omp_set_num_threads(1);  // of this thread: libraries called by a task shall not start a team
  for (std::uint32_t seen = 0;; ++seen) {
    wait_for_change(generation_, seen);
    if (ends_) return;
    take_tasks(own);
    if (working_.fetch_sub(1, std::memory_order_acq_rel) == 1) working_.notify_one();
  }
}

void ThreadTeam::take_tasks(std::size_t own) {
  for (std::size_t i = 0; i < shares_.size(); ++i) {
    Share& share = shares_[(own + i) % shares_.size()];
    while (share.next.load(std::memory_order_relaxed) < share.end) {  // cheaper than to take one
      const std::int64_t task = share.next.fetch_add(1, std::memory_order_relaxed);
      if (task < share.end) call_(task_, task);
    }
  }
}

}  // namespace lathe
