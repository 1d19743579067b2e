#include "waiting.h"

#include <algorithm>
#include <thread>

#include "base/clock.h"
#include "lathe/error.h"
#include "lathe/stop_signal.h"

namespace lathe {
namespace {

// Seconds.
constexpr double kLongestSilence = 30, kShortestSilence = 5;  // of a rank that is not stopped
constexpr double kOnItsWay = 0.2;  // for what a rank sent before it said that it fails
constexpr double kTogether = 0.8;  // from a failure to the end of all ranks
constexpr double kMoment = 0.3;    // from a launcher's signal to word of the death that it is about

// When a rank has died, mpirun kills the others a second later, or as soon as another one ends. So
// all end at one time, when the first rank has had what it can have to write what has happened.
void wait_to_end_together(double failed_at) {
  const double left = failed_at + kTogether - now();
  std::this_thread::sleep_for(std::chrono::duration<double>(std::max(0.0, left)));
}

}  // namespace

void Patience::wait() {
  constexpr int kBusyTries = 100;
  if (++tries_ < kBusyTries) return;
  std::this_thread::sleep_for(pause_);
  pause_ = std::min(longest_, pause_ + pause_ / 8 + std::chrono::microseconds{1});
}

double most_silence(double timeout) {
  return std::clamp(timeout, kShortestSilence, kLongestSilence);
}

// A rank that fails by itself has sent before whatever the others need to fail alike: that is on
// its way, and counts more.
void require_alive(const PeerWatch& watch, double waiting_since) {
  const std::optional<PeerFailure> failure = watch.failure();
  if (!failure) return;
  if (failure->kind == PeerFailure::Kind::failed && now() < waiting_since + kOnItsWay) return;
  if (!is_stop_code(failure->exit_code)) throw Error(ExitCode::peer, failure->message);
  take_over_stop(failure->exit_code);
  throw Error(static_cast<ExitCode>(failure->exit_code), failure->message);
}

void require_others(const PeerWatch& watch) {
  const double end = now() + kMoment;
  for (Patience patience; now() < end; patience.wait()) watch.require_alive();
}

std::optional<PeerFailure> say_end(PeerWatch& watch,
                                   const std::optional<Failure>& failure) noexcept {
  if (failure) {
    watch.say_failure(static_cast<int>(failure->code), failure->message);
  } else {
    watch.leave();
  }
  const std::optional<PeerFailure> other = watch.failure();
  if (failure) wait_to_end_together(other ? std::min(other->known_at, now()) : now());
  return other;
}

bool is_first_gone(const std::optional<PeerFailure>& failure) {
  return failure && failure->rank == 0 && failure->kind != PeerFailure::Kind::failed;
}

}  // namespace lathe
