// Knows whether the other ranks live. A thread watches one TCP connection between rank 0 and every
// other rank: when a process ends in whatever way, its connection closes, and rank 0 tells all
// others within milliseconds. A process that is stopped, or whose machine is cut off, is told by
// its silence. Who waits for others asks require_alive() while it waits.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "tcp_rendezvous.h"

namespace lathe {

struct PeerFailure {
  enum class Kind {
    gone,    // its process ended without leave()
    failed,  // it said so
    silent   // nothing was heard of it for too long
  };
  int rank;
  Kind kind;
  std::string message;  // one line with the rank and the machine
  int exit_code = 0;    // of one that has said it
  double known_at = 0;  // by now()
};

struct RankProgress {
  int rank;
  std::int64_t progress;
};

struct WatchBoard;

class PeerWatch {
 public:
  // Made at all ranks, each of which says something every second; a world of one has no thread.
  PeerWatch(RankConnections connections, double silence_seconds);
  PeerWatch(const PeerWatch&) = delete;
  PeerWatch& operator=(const PeerWatch&) = delete;
  // Without leave() or say_failure(), the others see this rank as gone.
  ~PeerWatch();

  // The first that was known; the same everywhere unless two ranks fail at one time.
  std::optional<PeerFailure> failure() const;
  // Throws Error(peer) with the message of failure(). Cheap enough for a loop that polls.
  void require_alive() const;

  // How far this rank is: a number that only grows, such as of sums over all ranks.
  void set_progress(std::int64_t progress);
  // The rank that is least far, as known about two seconds ago: who waits in vain may name it.
  RankProgress least_progress() const;

  // This rank has no more to do with the others, and they need not mind its end. Waits until that
  // is known; rank 0 until all others have left too; at most silence_seconds.
  void leave();
  // This rank is about to end with `exit_code`, for a reason of its own or, with that of
  // Error(peer), of another. Waits until the others know it, at most a second.
  void say_failure(int exit_code, const std::string& reason);

 private:
  const int rank_;
  const double silence_seconds_;
  std::unique_ptr<WatchBoard> board_;
  std::thread thread_;
};

}  // namespace lathe
