// How a rank waits for others and how it ends, however ranks talk to each other: no wait goes on
// when a rank is known to have failed, and all end at one time.
#pragma once

#include <chrono>
#include <optional>

#include "lathe/exit_codes.h"
#include "peer_watch.h"

namespace lathe {

// A wait that begins as a busy one, which is over soonest, and leaves the cores to others when it
// takes longer. Who sleeps is woken before those that compute; who yields comes after all of them.
class Patience {
 public:
  explicit Patience(std::chrono::microseconds longest = std::chrono::microseconds{500})
      : longest_(longest) {}

  void wait();

 private:
  std::chrono::microseconds longest_, pause_{10};
  int tries_ = 0;
};

// Seconds without a sign of life after which a rank counts as stopped, where others are waited for
// that long.
double most_silence(double timeout);

// For a loop that waits since then, by now(). Throws the Error(peer) of a rank that has failed. A
// rank that was asked to stop before its first step stops all: then this one is asked too.
void require_alive(const PeerWatch& watch, double waiting_since);

// The same for what is known in a moment.
void require_others(const PeerWatch& watch);

// The last word: that this rank ends, and what failed if anything has. After a failure it returns
// when all ranks do. What is known of another one's failure.
std::optional<PeerFailure> say_end(PeerWatch& watch,
                                   const std::optional<Failure>& failure) noexcept;

// Whether the first rank has ended without a word, so that others have to tell the user.
bool is_first_gone(const std::optional<PeerFailure>& failure);

}  // namespace lathe
