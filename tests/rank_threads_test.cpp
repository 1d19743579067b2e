// Ranks that are threads of one process: the exit code of the process, what is said, and that it
// comes to its end whatever becomes of a rank.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "lathe/error.h"
#include "lathe/join_ranks.h"
#include "ranks/host_communicator.h"
#include "support/thread_ranks.h"

namespace lathe::test {
namespace {

constexpr int kRanks = 3;

std::vector<JoinRank> joins() {
  const auto mail = std::make_shared<Mail>();
  std::vector<JoinRank> ranks;
  for (int rank = 0; rank < kRanks; ++rank) {
    ranks.emplace_back([mail, rank] {
      return std::make_unique<HostCommunicator>(
          std::make_unique<ThreadTransport>(mail, rank, kRanks), /*timeout=*/60);
    });
  }
  return ranks;
}

// The codes with which the ranks end.
int run_with(const std::vector<int>& codes) {
  return run_in_threads(joins(), [&](Communicator& communicator) {
    communicator.leave({});
    return codes[static_cast<std::size_t>(communicator.rank())];
  });
}

TEST(RankThreads, AreAllRanksOfTheWorld) {
  std::atomic<int> sum = 0;
  EXPECT_EQ(run_in_threads(joins(),
                           [&](Communicator& communicator) {
                             EXPECT_EQ(communicator.size(), kRanks);
                             communicator.barrier();
                             sum += 1 << communicator.rank();
                             communicator.leave({});
                             return 0;
                           }),
            0);
  EXPECT_EQ(sum, 0b111);
}

TEST(RankThreads, EndWithTheCodeOfTheRankThatFailedByItself) {
  EXPECT_EQ(run_with({0, 0, 0}), 0);
  EXPECT_EQ(run_with({6, 0, 0}), 6);
  EXPECT_EQ(run_with({8, 4, 8}), 4);
  EXPECT_EQ(run_with({8, 8, 8}), 8);
  EXPECT_EQ(run_with({143, 143, 143}), 143);
  EXPECT_EQ(run_with({143, 8, 143}), 8);
}

TEST(RankThreads, SayWhatKeepsARankFromJoining) {
  std::vector<JoinRank> ranks = joins();
  for (JoinRank& join : ranks) {
    join = []() -> std::unique_ptr<Communicator> { throw Error(ExitCode::usage, "no GPU 2"); };
  }
  testing::internal::CaptureStderr();
  EXPECT_EQ(run_in_threads(ranks, [](Communicator&) { return 0; }), 2);
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "lathe: no GPU 2\n");
}

TEST(RankThreads, LeaveBehindARankThatDoesNotEnd) {
  const double start = now();
  const auto is_over = std::make_shared<std::atomic<bool>>(false);
  EXPECT_EQ(run_in_threads(joins(),
                           [is_over](Communicator& communicator) {
                             while (communicator.rank() == 1 && !*is_over) {
                               std::this_thread::sleep_for(std::chrono::milliseconds(10));
                             }
                             communicator.leave(Failure{ExitCode::data, "gone"});
                             return 3;
                           }),
            3);
  EXPECT_LT(now() - start, 15);
  *is_over = true;
}

// A stop may take as long as it likes: it saves.
TEST(RankThreads, WaitForARankThatIsAskedToStop) {
  constexpr int kStopped = 143;
  std::atomic<bool> has_ended = false;
  EXPECT_EQ(run_in_threads(joins(),
                           [&](Communicator& communicator) {
                             if (communicator.is_first()) {
                               std::this_thread::sleep_for(std::chrono::seconds(7));
                               has_ended = true;
                             }
                             return kStopped;
                           }),
            kStopped);
  EXPECT_TRUE(has_ended);
}

}  // namespace
}  // namespace lathe::test
