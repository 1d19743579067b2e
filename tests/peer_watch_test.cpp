// Ranks that are killed, stopped, fail or leave, as processes on this machine: what the others know
// of it, and how soon.
#include "ranks/peer_watch.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <ctime>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "lathe/random.h"
#include "run/session_facts.h"
#include "support/error_of.h"
#include "support/forked_ranks.h"

namespace lathe::test {
namespace {

constexpr double kLauncherSeconds = 1;  // mpirun ends the other ranks so long after one has died
constexpr int kReady = 1;
enum Order { kGoOn, kLeave, kFail };

RankConnections meet(const Listener& listener, int rank, int size, double timeout = 15) {
  const Rendezvous rendezvous{.rank = rank, .size = size, .token = 7, .timeout_seconds = timeout};
  return rank == 0 ? gather_ranks(listener, rendezvous, "")
                   : join_rank_0({"127.0.0.1"}, listener.port(), rendezvous);
}

class Watch : public testing::Test {
 protected:
  // Ranks that wait for each other, as in a sum that never ends, until they are told otherwise.
  void start(double silence_seconds = 30, int size = 4) {
    ranks_.emplace(size, [&, silence_seconds, size](int rank, RankBoard& board) {
      PeerWatch watch(meet(listener_, rank, size), silence_seconds);
      board.stage = kReady;
      for (;; sleep_seconds(0.001)) {
        watch.require_alive();
        if (board.order == kLeave) {
          watch.leave();
          return watch.failure() ? 100 : 0;
        }
        if (board.order == kFail) {
          watch.say_failure(3, "train.bin:\nis cut");
          return 3;
        }
      }
    });
    ASSERT_TRUE(ranks_->reach(kReady));
  }

  std::vector<int> others(int rank) const {
    std::vector<int> result;
    for (int other = 0; other < ranks_->size(); ++other) {
      if (other != rank) result.push_back(other);
    }
    return result;
  }

  // All but `rank` end for this reason, within `seconds` of `since`.
  void expect_known(int rank, const std::string& message, double since, double seconds) {
    double latest = 0;
    for (const int other : others(rank)) {
      EXPECT_EQ(ranks_->wait(other), 8) << "rank " << other;
      EXPECT_EQ(ranks_->message(other), message) << "rank " << other;
      latest = std::max(latest, ranks_->board(other).ended_at - since);
    }
    EXPECT_LT(latest, seconds);
    RecordProperty(fmt::format("milliseconds_{}", rank), static_cast<int>(1e3 * latest));
  }

  Listener listener_ = Listener(0);
  std::optional<ForkedRanks> ranks_;
};

TEST_F(Watch, AKilledRankIsKnownBeforeTheLauncherActs) {
  for (const int rank : {0, 1, 2, 3}) {
    start();
    ranks_->signal(rank, SIGKILL);
    expect_known(rank,
                 fmt::format("rank {} on {} is gone: its process has ended", rank, host_name()),
                 now(), kLauncherSeconds);
    EXPECT_EQ(ranks_->wait(rank), 128 + SIGKILL);
  }
}

TEST_F(Watch, AStoppedRankIsKnownByItsSilence) {
  constexpr double kSilence = 1;
  for (const int rank : {0, 2}) {
    start(kSilence);
    ranks_->signal(rank, SIGSTOP);
    const std::string message = fmt::format(
        "rank {} on {} has been silent for 1 s: it is stopped, or cut off", rank, host_name());
    const double since = now();
    expect_known(rank, message, since, kSilence + 2);
    for (const int other : others(rank)) {
      EXPECT_GT(ranks_->board(other).ended_at - since, kSilence / 2) << other;
    }
    ranks_->signal(rank, SIGCONT);
    EXPECT_EQ(ranks_->wait(rank), 8);
    EXPECT_EQ(ranks_->message(rank), "this is what the others saw: " + message);
  }
}

// A batch system may stop a whole job and let it go on later.
TEST_F(Watch, RanksThatAreAllStoppedGoOn) {
  constexpr double kSilence = 1;
  start(kSilence);
  for (int rank = 0; rank < 4; ++rank) ranks_->signal(rank, SIGSTOP);
  sleep_seconds(1.6 * kSilence);
  for (int rank = 0; rank < 4; ++rank) {
    ranks_->signal(rank, SIGCONT);
    sleep_seconds(0.02);
  }
  sleep_seconds(1.4 * kSilence);
  for (int rank = 0; rank < 4; ++rank) ranks_->board(rank).order = kLeave;
  for (int rank = 0; rank < 4; ++rank) EXPECT_EQ(ranks_->wait(rank), 0) << ranks_->message(rank);
}

TEST_F(Watch, WhoLeavesIsNotMissed) {
  for (const std::vector<int>& order : {std::vector{0, 1, 2, 3}, {3, 1, 0, 2}}) {
    start();
    for (const int rank : order) {
      ranks_->board(rank).order = kLeave;
      sleep_seconds(0.05);
    }
    for (int rank = 0; rank < 4; ++rank) EXPECT_EQ(ranks_->wait(rank), 0) << ranks_->message(rank);
  }
}

TEST_F(Watch, RankZeroWatchesUntilAllHaveLeft) {
  start();
  ranks_->board(0).order = kLeave;
  ranks_->board(1).order = kLeave;
  EXPECT_EQ(ranks_->wait(1), 0) << ranks_->message(1);
  EXPECT_EQ(ranks_->wait(0, 0.1), -1);
  ranks_->signal(2, SIGKILL);
  EXPECT_EQ(ranks_->wait(3), 8);
  EXPECT_EQ(ranks_->message(3),
            fmt::format("rank 2 on {} is gone: its process has ended", host_name()));
  EXPECT_EQ(ranks_->wait(0), 100);
}

TEST_F(Watch, WhoFailsSaysWhy) {
  for (const int rank : {0, 3}) {
    start();
    const double since = now();
    ranks_->board(rank).order = kFail;
    expect_known(
        rank,
        fmt::format("rank {} on {} failed with exit code 3: train.bin: is cut", rank, host_name()),
        since, kLauncherSeconds);
    EXPECT_EQ(ranks_->wait(rank), 3);
    EXPECT_LT(ranks_->board(rank).ended_at - since, kLauncherSeconds);
  }
}

// One of many worlds that run at one time, and lose a rank.
struct DoomedWorld {
  Listener listener = Listener(0);
  std::unique_ptr<ForkedRanks> ranks;
  int victim = 0;
  double kill_at = 0, killed_at = 0;

  void kill_when_due() {
    if (ranks == nullptr || killed_at > 0 || now() < kill_at) return;
    ranks->signal(victim, SIGKILL);
    killed_at = now();
  }
  void expect_seen() const;
};

void DoomedWorld::expect_seen() const {
  const std::string gone = fmt::format("rank {} on {} is gone", victim, host_name());
  const std::string late = fmt::format("rank {} of 4 did not come", victim);
  const std::string alone = "rank 0 did not answer";  // said by who comes when it is all over
  for (int rank = 0; rank < 4; ++rank) {
    if (rank == victim) continue;
    EXPECT_EQ(ranks->wait(rank), 8);
    const std::string message = ranks->message(rank);
    const bool was_met = message.starts_with(gone);
    EXPECT_TRUE(was_met || message.starts_with(late) || message.starts_with(alone)) << message;
    EXPECT_LT(ranks->board(rank).ended_at - killed_at, was_met ? 3 : 10) << message;
  }
}

// At any moment, of the meeting too.
TEST(ManyWorlds, SeeFiftyKills) {
  const RandomKey key{.seed = 11, .stream = RandomStream::sampling, .substream = 0};
  std::vector<DoomedWorld> worlds(50);
  for (std::size_t i = 0; i < worlds.size(); ++i) {
    DoomedWorld& world = worlds[i];
    world.victim = static_cast<int>(i % 4);
    world.kill_at = now() + 0.2 * uniform(key, i);
    world.ranks = std::make_unique<ForkedRanks>(4, [&world](int rank, RankBoard&) {
      PeerWatch watch(meet(world.listener, rank, 4, 4), 30);
      for (;; sleep_seconds(0.005)) watch.require_alive();
      return 100;
    });
    for (DoomedWorld& each : worlds) each.kill_when_due();
  }
  while (std::ranges::any_of(worlds, [](const DoomedWorld& w) { return w.killed_at == 0; })) {
    sleep_seconds(0.001);
    for (DoomedWorld& each : worlds) each.kill_when_due();
  }
  for (const DoomedWorld& world : worlds) world.expect_seen();
}

TEST_F(Watch, KnowsWhoIsLeastFar) {
  ranks_.emplace(3, [&](int rank, RankBoard& board) {
    PeerWatch watch(meet(listener_, rank, 3), 1);
    watch.set_progress(rank == 1 ? 17 : 18);
    RankProgress least{};
    for (const double end = now() + 10; now() < end && least.progress != 17; sleep_seconds(0.01)) {
      least = watch.least_progress();
    }
    if (least.rank != 1 || least.progress != 17) return 100;
    board.stage = kReady;
    while (board.order == kGoOn) sleep_seconds(0.001);
    watch.leave();
    return 0;
  });
  ASSERT_TRUE(ranks_->reach(kReady));
  for (int rank = 0; rank < 3; ++rank) ranks_->board(rank).order = kLeave;
  for (int rank = 0; rank < 3; ++rank) EXPECT_EQ(ranks_->wait(rank), 0) << ranks_->message(rank);
}

// The rest is of threads within this process.
class WatchThreads : public testing::Test {
 protected:
  void SetUp() override {
    watches_.resize(4);
    std::vector<std::jthread> threads;
    for (int rank = 0; rank < 4; ++rank) {
      threads.emplace_back([this, rank] {
        watches_[static_cast<std::size_t>(rank)] =
            std::make_unique<PeerWatch>(meet(listener_, rank, 4), 30);
      });
    }
  }

  std::optional<PeerFailure> wait_for_failure(std::size_t rank) const {
    for (const double end = now() + 10; now() < end; sleep_seconds(0.001)) {
      if (auto failure = watches_[rank]->failure()) return failure;
    }
    return std::nullopt;
  }

  Listener listener_ = Listener(0);
  std::vector<std::unique_ptr<PeerWatch>> watches_;
};

TEST_F(WatchThreads, GiveTheFirstFailureInFull) {
  EXPECT_EQ(error_of([&] { watches_[1]->require_alive(); }), "");
  watches_[2].reset();  // as when an exception ends a rank
  const std::string message =
      fmt::format("rank 2 on {} is gone: its process has ended", host_name());
  for (const std::size_t rank : {0, 1, 3}) {
    const auto failure = wait_for_failure(rank);
    ASSERT_TRUE(failure) << rank;
    EXPECT_EQ(failure->rank, 2);
    EXPECT_EQ(failure->kind, PeerFailure::Kind::gone);
    EXPECT_EQ(error_of([&] { watches_[rank]->require_alive(); }), "exit 8: " + message);
    watches_[rank]->say_failure(8, message);
  }
  EXPECT_EQ(watches_[0]->failure()->rank, 2);
}

TEST_F(WatchThreads, MayFailAllAtOnce) {
  std::vector<std::jthread> threads;
  for (std::size_t rank = 0; rank < 4; ++rank) {
    threads.emplace_back([&, rank] {
      watches_[rank]->set_progress(5);
      watches_[rank]->say_failure(7, "diverged");
      watches_[rank]->leave();
    });
  }
  threads.clear();
  for (const auto& watch : watches_) {
    const auto failure = watch->failure();
    EXPECT_TRUE(!failure || failure->kind == PeerFailure::Kind::failed) << failure->message;
  }
}

TEST_F(WatchThreads, LeaveSignalsToTheMainThread) {
  sigset_t wanted{}, before{}, pending{};
  sigemptyset(&wanted);
  sigaddset(&wanted, SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &wanted, &before);
  kill(getpid(), SIGUSR1);
  sleep_seconds(0.05);
  sigpending(&pending);
  EXPECT_EQ(sigismember(&pending, SIGUSR1), 1);  // else a thread of the watch would have died of it
  const timespec at_once{};
  sigtimedwait(&wanted, nullptr, &at_once);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

TEST_F(WatchThreads, LeaveNothingOpenToAnotherProgram) {
  int sockets = 0;
  for (int number = 3; number < 256; ++number) {
    const int flags = fcntl(number, F_GETFD);
    if (flags < 0) continue;
    char target[64] = {};
    const auto size = readlink(fmt::format("/proc/self/fd/{}", number).c_str(), target, 63);
    const std::string name(target, static_cast<std::size_t>(std::max<ssize_t>(size, 0)));
    if (!name.starts_with("socket:") && name != "anon_inode:[eventfd]") continue;
    ++sockets;
    EXPECT_NE(flags & FD_CLOEXEC, 0) << name;
  }
  EXPECT_GE(sockets, 1 + 6 + 4);  // who listens, both ends of three connections, a wake-up for each
}

TEST_F(WatchThreads, SleepWhenNothingHappens) {
  const auto cpu_seconds = [] {
    timespec time{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
  };
  const double before = cpu_seconds();
  sleep_seconds(0.5);
  EXPECT_LT(cpu_seconds() - before, 0.05);
  for (std::size_t rank = 4; rank-- > 1;) watches_[rank]->leave();
  watches_[0]->leave();
  EXPECT_FALSE(watches_[0]->failure());
}

TEST(WatchOfOne, HasNobodyToMiss) {
  PeerWatch watch(RankConnections{.peers = std::vector<Peer>(1)}, 30);
  watch.require_alive();
  watch.leave();
  watch.say_failure(1, "no one hears it");
  EXPECT_FALSE(watch.failure());
  EXPECT_EQ(watch.least_progress().rank, 0);
}

}  // namespace
}  // namespace lathe::test
