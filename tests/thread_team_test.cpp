#include "../kernels/cpu/thread_team.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <ctime>
#include <thread>
#include <vector>

namespace lathe {
namespace {

double cpu_seconds() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

TEST(ThreadTeam, DoesEveryTaskOnce) {
  for (const int threads : {1, 2, 3, 8}) {
    ThreadTeam team(threads);
    EXPECT_EQ(team.threads(), threads);
    for (const std::int64_t count : {0, 1, 2, 7, 1000}) {
      std::vector<std::atomic<int>> done(static_cast<std::size_t>(count));
      team.run(count, [&](std::int64_t i) { ++done[static_cast<std::size_t>(i)]; });
      for (const auto& times : done) ASSERT_EQ(times, 1);
    }
  }
}

// What one run wrote, the next one sees, whoever did it.
TEST(ThreadTeam, RunsAreOneAfterAnother) {
  ThreadTeam team(4);
  std::vector<std::int64_t> values(64, 0), next(64);
  constexpr std::int64_t kRuns = 5000;
  for (std::int64_t run = 0; run < kRuns; ++run) {
    team.run(64, [&](std::int64_t i) {
      const auto at = static_cast<std::size_t>(i),
                 neighbour = static_cast<std::size_t>((i + 1) % 64);
      next[at] = values[neighbour] + 1;
    });
    values.swap(next);
  }
  for (const std::int64_t value : values) ASSERT_EQ(value, kRuns);
}

TEST(ThreadTeam, UsesItsThreads) {
  ThreadTeam team(3);
  std::atomic<int> waiting = 0;
  // Three tasks that each wait for all three to have begun end only on three threads.
  team.run(3, [&](std::int64_t) {
    ++waiting;
    while (waiting < 3) std::this_thread::yield();
  });
  EXPECT_EQ(waiting, 3);
}

// A thread with a long task is helped with the rest of its share.
TEST(ThreadTeam, ThreadsHelpEachOther) {
  ThreadTeam team(2);
  std::atomic<int> others = 0;
  bool is_helped = false;
  team.run(8, [&](std::int64_t i) {
    if (i > 0) {
      ++others;
      return;
    }
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (others < 7 && std::chrono::steady_clock::now() < end) std::this_thread::yield();
    is_helped = others == 7;
  });
  EXPECT_TRUE(is_helped);
}

TEST(ThreadTeam, SleepsBetweenRuns) {
  ThreadTeam team(4);
  team.run(4, [](std::int64_t) {});
  std::this_thread::sleep_for(std::chrono::milliseconds(50));  // spinning is over
  const double before = cpu_seconds();
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  EXPECT_LT(cpu_seconds() - before, 0.05);
}

}  // namespace
}  // namespace lathe
