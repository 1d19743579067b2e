// Threads that share out the tasks of one operation after another. Between operations they spin for
// a moment, which makes the next one start at once, and then sleep, so that several runs on one
// machine do not keep each other from the cores. (OpenMP's threads spin for milliseconds or always
// sleep; which, only the environment can say.)
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace lathe {

class ThreadTeam {
 public:
  explicit ThreadTeam(int threads);  // the calling thread is one of them
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls task(i) for i in [0, count), each once, on any thread in any order, and returns when all
  // are done. A task must not throw and must not call this.
  template <class Task>
  void run(std::int64_t count, const Task& task) {
    run_all(
        count, [](const void* t, std::int64_t i) noexcept { (*static_cast<const Task*>(t))(i); },
        &task);
  }

 private:
  using Call = void (*)(const void* task, std::int64_t i) noexcept;

  // Neighboring tasks, which their own thread takes first, in order.
  struct alignas(64) Share {
    std::atomic<std::int64_t> next = 0;  // the first that nobody has taken
    std::int64_t end = 0;
  };

  void run_all(std::int64_t count, Call call, const void* task);
  void work(std::size_t own);
  void take_tasks(std::size_t own);

  Call call_ = nullptr;  // the operation under way: read by workers behind generation_
  const void* task_ = nullptr;
  bool ends_ = false;

  std::vector<Share> shares_;  // one for each thread, the calling one's first
  alignas(64) std::atomic<std::uint32_t> generation_ = 0;
  alignas(64) std::atomic<std::uint32_t> working_ = 0;  // workers that have not finished
  std::vector<std::thread> workers_;
};

}  // namespace lathe
