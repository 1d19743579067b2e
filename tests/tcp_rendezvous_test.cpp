// Ranks find together over TCP on this machine's own addresses, whoever else connects and whoever
// does not come; and each of them says which rank it was.
#include "ranks/tcp_rendezvous.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "lathe/stop_signal.h"
#include "run/session_facts.h"
#include "support/error_of.h"
#include "support/forked_ranks.h"

namespace lathe::test {
namespace {

constexpr std::uint64_t kToken = 0x123456789abcdef0;
const std::string kId = std::string("\0id\xff", 4) + std::string(124, '\x7f');

// What a rank of four does, if nothing is wrong with it.
struct Rank {
  int size = 4;
  std::uint64_t token = kToken;
  double timeout = 15;
  std::vector<std::string> hosts = {"127.0.0.1"};
};

class TcpRendezvous : public testing::Test {
 protected:
  RankConnections meet(int rank, const Rank& what = {}) const {
    const Rendezvous rendezvous{rank, what.size, what.token, what.timeout};
    return rank == 0 ? gather_ranks(*listener_, rendezvous, kId)
                     : join_rank_0(what.hosts, listener_->port(), rendezvous);
  }

  // A connection of nobody that is expected.
  FileDescriptor stranger() const {
    std::string problem;
    const auto addresses = resolve("127.0.0.1", listener_->port(), problem);
    return connect_to(addresses.at(0), now() + 5, problem);
  }

  std::optional<Listener> listener_ = std::optional<Listener>(std::in_place, 0);
};

int code(bool is_right) {
  return is_right ? 0 : 100;
}

bool has_all(const RankConnections& connections, int rank) {
  for (int other = 0; other < 4; ++other) {
    const Peer& peer = connections.peers.at(static_cast<std::size_t>(other));
    const bool is_wanted = other != rank && (rank == 0 || other == 0);
    if (peer.connection.is_open() != is_wanted) return false;
    if (is_wanted && peer.host != host_name()) return false;
  }
  return connections.rank == rank && connections.from_rank_0 == kId;
}

TEST_F(TcpRendezvous, BringsAllTogether) {
  ForkedRanks ranks(4, [&](int rank, RankBoard&) { return code(has_all(meet(rank), rank)); });
  for (int rank = 0; rank < 4; ++rank) EXPECT_EQ(ranks.wait(rank), 0) << ranks.message(rank);
}

TEST_F(TcpRendezvous, WaitsForThoseWhoAreLate) {
  for (const int late : {0, 2}) {
    const int port = listener_->port();
    if (late == 0) listener_.reset();
    ForkedRanks ranks(4, [&](int rank, RankBoard&) {
      if (rank == late) sleep_seconds(0.4);
      if (late != 0) return code(has_all(meet(rank), rank));
      const Rendezvous rendezvous{.rank = rank, .size = 4, .token = kToken, .timeout_seconds = 15};
      return code(has_all(rank == 0 ? gather_ranks(Listener(port), rendezvous, kId)
                                    : join_rank_0({"127.0.0.1"}, port, rendezvous),
                          rank));
    });
    for (int rank = 0; rank < 4; ++rank) EXPECT_EQ(ranks.wait(rank), 0) << ranks.message(rank);
    listener_.emplace(0);
  }
}

TEST_F(TcpRendezvous, NamesThoseWhoDoNotCome) {
  for (const bool two : {false, true}) {
    ForkedRanks ranks(4, [&](int rank, RankBoard&) {
      if (rank == 2 || (two && rank == 3)) return 0;
      meet(rank, {.timeout = 0.5});
      return 100;
    });
    const std::string expected =
        two ? "ranks 2, 3 of 4 did not come within 0.5 s" : "rank 2 of 4 did not come within 0.5 s";
    for (int rank = 0; rank < (two ? 2 : 4); ++rank) {
      if (rank == 2) continue;
      EXPECT_EQ(ranks.wait(rank), 8);
      EXPECT_EQ(ranks.message(rank), expected);
    }
  }
}

TEST_F(TcpRendezvous, SaysWhereRankZeroWasLookedFor) {
  const int port = listener_->port();
  listener_.reset();
  const double before = now();
  EXPECT_EQ(error_of([&] {
              join_rank_0({"127.0.0.1", "127.0.0.2"}, port,
                          {.rank = 1, .size = 4, .token = kToken, .timeout_seconds = 0.3});
            }),
            fmt::format("exit 8: rank 0 did not answer at 127.0.0.1, 127.0.0.2, port {}, within "
                        "0.3 s: Connection refused",
                        port));
  EXPECT_GE(now() - before, 0.3);
  EXPECT_LT(now() - before, 2);
}

// More than are heard at one time, which say nothing, nonsense, half a message, another's token.
TEST_F(TcpRendezvous, IgnoresStrangers) {
  ForkedRanks ranks(4, [&](int rank, RankBoard& board) {
    while (rank != 0 && board.order == 0) sleep_seconds(0.001);
    return code(has_all(meet(rank), rank));
  });
  const std::string half = encode({.kind = MessageKind::hello, .rank = 1}).substr(0, 10);
  const std::string other = encode({.kind = MessageKind::hello, .rank = 1, .text = "4 x"});
  const std::string early = encode({.kind = MessageKind::here, .rank = 1});
  std::vector<FileDescriptor> strangers;
  for (int i = 0; i < 600; ++i) {
    strangers.push_back(stranger());
    ASSERT_GE(strangers.back().number(), 0);
    const std::string said[] = {"", "", "", "GET / HTTP/1.1\r\n\r\n", half, other, early};
    const std::string& bytes = said[i % std::size(said)];
    if (!bytes.empty()) ::send(strangers.back().number(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
  }
  const double before = now();
  for (int rank = 1; rank < 4; ++rank) ranks.board(rank).order = 1;
  for (int rank = 0; rank < 4; ++rank) EXPECT_EQ(ranks.wait(rank), 0) << ranks.message(rank);
  EXPECT_LT(now() - before, 3);  // before those who say nothing are given up
}

TEST_F(TcpRendezvous, OfAnotherRunDoesNotGetIn) {
  ForkedRanks ranks(2, [&](int rank, RankBoard&) {
    meet(rank, {.size = 2, .token = kToken + static_cast<std::uint64_t>(rank), .timeout = 0.4});
    return 100;
  });
  EXPECT_EQ(ranks.wait(0), 8);
  EXPECT_EQ(ranks.message(0), "rank 1 of 2 did not come within 0.4 s");
  EXPECT_EQ(ranks.wait(1), 8);
  EXPECT_TRUE(ranks.message(1).ends_with("who listens there is not rank 0 of this run") ||
              ranks.message(1).ends_with("Connection refused"))
      << ranks.message(1);
}

// A program that answers at rank 0's port, even with a welcome, but does not know the token.
TEST_F(TcpRendezvous, IsNotWithAnImpostor) {
  const std::string answers[] = {
      encode({.kind = MessageKind::welcome, .number = 1}) + encode({.kind = MessageKind::all_here}),
      "HTTP/1.1 400 Bad Request\r\n\r\n"};
  for (const std::string& answer : answers) {
    ForkedRanks ranks(1, [&](int, RankBoard&) {
      meet(1, {.timeout = 0.5});
      return 100;
    });
    std::vector<FileDescriptor> accepted;
    while (ranks.wait(0, 0.01) < 0) {
      FileDescriptor socket = listener_->accept();
      if (socket.number() < 0) continue;
      ::send(socket.number(), answer.data(), answer.size(), MSG_NOSIGNAL);
      accepted.push_back(std::move(socket));
    }
    EXPECT_FALSE(accepted.empty());
    EXPECT_EQ(ranks.message(0),
              fmt::format("rank 0 did not answer at 127.0.0.1, port {}, within 0.5 s: who listens "
                          "there is not rank 0 of this run",
                          listener_->port()));
  }
}

TEST_F(TcpRendezvous, RefusesASecondOfTheSameRank) {
  ForkedRanks ranks(4, [&](int process, RankBoard&) {
    if (process == 2) sleep_seconds(0.3);
    if (process == 3) sleep_seconds(0.8);
    const int rank = process == 2 ? 1 : process == 3 ? 2 : process;
    meet(rank, {.size = 3});
    return 0;
  });
  EXPECT_EQ(ranks.wait(2), 2);
  EXPECT_EQ(
      ranks.message(2),
      fmt::format("there is a rank 1 already, on {}: each rank must be started once", host_name()));
  for (const int process : {0, 1, 3}) EXPECT_EQ(ranks.wait(process), 0) << ranks.message(process);
}

TEST_F(TcpRendezvous, RefusesAnotherSize) {
  ForkedRanks ranks(2, [&](int rank, RankBoard&) {
    meet(rank, {.size = rank == 0 ? 2 : 3, .timeout = 0.5});
    return 100;
  });
  EXPECT_EQ(ranks.wait(1), 2);
  EXPECT_EQ(ranks.message(1), "rank 0 counts 2 ranks, and rank 1 counts 3");
  EXPECT_EQ(ranks.wait(0), 8);
}

TEST_F(TcpRendezvous, SeesWhoDiesBeforeAllAreThere) {
  for (const int victim : {0, 1}) {
    ForkedRanks ranks(3, [&](int rank, RankBoard&) {
      meet(rank);  // rank 3 of 4 does not come
      return 100;
    });
    listener_.reset();
    sleep_seconds(0.4);
    ranks.signal(victim, SIGKILL);
    const double killed_at = now();
    for (const int rank : {0, 1, 2}) {
      if (rank == victim) continue;
      EXPECT_EQ(ranks.wait(rank), 8);
      EXPECT_EQ(ranks.message(rank), fmt::format("rank {} on {} is gone (its process ended) before "
                                                 "all ranks had come",
                                                 victim, host_name()));
      EXPECT_LT(ranks.board(rank).ended_at - killed_at, 2);
    }
    listener_.emplace(0);
  }
}

TEST_F(TcpRendezvous, EndsWhenASignalAsks) {
  for (const int rank : {0, 1}) {
    ForkedRanks ranks(1, [&](int, RankBoard& board) {
      const StopSignalWatch watch;
      board.stage = 1;
      meet(rank, {.size = 3});
      return 100;
    });
    ASSERT_TRUE(ranks.reach(1));
    sleep_seconds(0.1);
    ranks.signal(0, SIGTERM);
    EXPECT_EQ(ranks.wait(0, 2), 128 + SIGTERM);
    EXPECT_TRUE(ranks.message(0).ends_with(": stopped by signal 15")) << ranks.message(0);
  }
}

TEST_F(TcpRendezvous, TriesOneHostAfterAnother) {
  std::vector<std::string> hosts = own_addresses();
  ASSERT_FALSE(hosts.empty());
  EXPECT_TRUE(hosts.back() == "::1" || hosts.back() == "127.0.0.1") << hosts.back();
  hosts.insert(hosts.begin(), "255.255.255.255");
  ForkedRanks ranks(
      4, [&](int rank, RankBoard&) { return code(has_all(meet(rank, {.hosts = hosts}), rank)); });
  for (int rank = 0; rank < 4; ++rank) EXPECT_EQ(ranks.wait(rank), 0) << ranks.message(rank);
}

TEST_F(TcpRendezvous, TakesIPv4AndIPv6) {
  if (FileDescriptor(::socket(AF_INET6, SOCK_STREAM, 0)).number() < 0) GTEST_SKIP() << "no IPv6";
  for (const char* host : {"::1", "127.0.0.1", "localhost"}) {
    ForkedRanks ranks(4, [&](int rank, RankBoard&) {
      return code(has_all(meet(rank, {.hosts = {host}}), rank));
    });
    for (int rank = 0; rank < 4; ++rank) EXPECT_EQ(ranks.wait(rank), 0) << ranks.message(rank);
  }
}

TEST(Listener, NamesAPortThatIsInUse) {
  const Listener first(0);
  EXPECT_EQ(error_of([&] { Listener second(first.port()); }),
            fmt::format("exit 2: port {}: cannot listen there: Address already in use; give "
                        "another one",
                        first.port()));
}

TEST(Token, IsAnotherForEachWorld) {
  EXPECT_NE(random_token(), random_token());
  EXPECT_EQ(token_of("job 17"), token_of("job 17"));
  EXPECT_NE(token_of("job 17"), token_of("job 18"));
}

}  // namespace
}  // namespace lathe::test
