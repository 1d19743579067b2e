#include "peer_watch.h"

#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <utility>

#include "lathe/error.h"
#include "run/session_facts.h"
#include "watch_loop.h"

namespace lathe {
namespace {

constexpr double kLastWords = 1;  // seconds for the others to hear that this rank fails

}  // namespace

// Signals are the main thread's business.
PeerWatch::PeerWatch(RankConnections connections, double silence_seconds)
    : rank_(connections.rank),
      silence_seconds_(silence_seconds),
      board_(std::make_unique<WatchBoard>()) {
  board_->least.rank = rank_;
  board_->is_over = std::ranges::none_of(
      connections.peers, [](const Peer& peer) { return peer.connection.is_open(); });
  if (board_->is_over) return;
  sigset_t all{}, before{};
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this, connected = std::move(connections)]() mutable {
    WatchLoop(std::move(connected), silence_seconds_, *board_).run();
  });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

PeerWatch::~PeerWatch() {
  board_->post(Wish::end);
  if (thread_.joinable()) thread_.join();
}

std::optional<PeerFailure> PeerWatch::failure() const {
  if (!board_->has_failure) return std::nullopt;
  const std::scoped_lock lock(board_->mutex);
  return board_->failure;
}

void PeerWatch::require_alive() const {
  if (const auto known = failure()) throw Error(ExitCode::peer, known->message);
}

void PeerWatch::set_progress(std::int64_t progress) {
  board_->progress = progress;
}

RankProgress PeerWatch::least_progress() const {
  const std::scoped_lock lock(board_->mutex);
  return board_->least;
}

void PeerWatch::leave() {
  board_->post(Wish::leave);
  board_->wait_until_over(silence_seconds_);
}

void PeerWatch::say_failure(int exit_code, const std::string& reason) {
  const bool is_of_another = exit_code == static_cast<int>(ExitCode::peer);
  {
    const std::scoped_lock lock(board_->mutex);
    board_->own_failure = {
        .kind = MessageKind::failed,
        .rank = rank_,
        .number = exit_code,
        .text =
            message_text(is_of_another ? reason
                                       : fmt::format("rank {} on {} failed with exit code {}: {}",
                                                     rank_, host_name(), exit_code, reason))};
  }
  board_->post(Wish::fail);
  board_->wait_until_over(kLastWords);
}

}  // namespace lathe
