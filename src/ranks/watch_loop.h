// What PeerWatch's thread does, and what it shares with the others.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "peer_watch.h"

namespace lathe {

// What this rank wants to be known.
enum class Wish { none, leave, fail, end };

struct WatchBoard {
  WatchBoard();

  void post(Wish wish);  // wakes the thread
  void wait_until_over(double most_seconds);

  std::atomic<std::int64_t> progress = 0;
  std::atomic<bool> has_failure = false;

  std::mutex mutex;  // of all below
  std::condition_variable changed;
  std::optional<PeerFailure> failure;
  RankProgress least{};
  Wish wish = Wish::none;
  Message own_failure{.kind = MessageKind::failed};
  bool is_over = false;  // no connection is left

  const FileDescriptor wake;  // an eventfd
};

class WatchLoop {
 public:
  WatchLoop(RankConnections connections, double silence_seconds, WatchBoard& board);

  // Until all connections are closed, or Wish::end.
  void run();

 private:
  struct Heard {
    double at = 0;  // of clock_
    std::int64_t progress = 0;
  };

  bool is_rank_0() const { return connections_.rank == 0; }
  Connection& connection(int rank);
  bool is_anyone_left() const;
  void wait(double deadline);
  void flush();
  void say_last_words();

  void take_wish();
  void listen_to(int rank);
  void hear(int rank, const Message& message);
  void see_end(int rank);
  void learn(const Message& failure);
  void look_for_silence();
  void send_heartbeats();
  void tell_all(const Message& message);

  RankConnections connections_;
  const double silence_seconds_, heartbeat_seconds_;
  WatchBoard& board_;
  std::vector<Heard> heard_;  // by rank
  double clock_ = 0;          // seconds; stands still while this process is stopped
  Wish wish_ = Wish::none;    // that was taken
  bool is_leaving_ = false, is_failing_ = false;
};

}  // namespace lathe
