#include "watch_loop.h"

#include <fmt/format.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <system_error>
#include <utility>

#include "base/clock.h"

namespace lathe {
namespace {

constexpr double kLoopLastWords = 0.2;  // seconds for what is left to say at the end

PeerFailure::Kind kind_of(const Message& failure) {
  if (failure.kind == MessageKind::failed) return PeerFailure::Kind::failed;
  return failure.kind == MessageKind::silent ? PeerFailure::Kind::silent : PeerFailure::Kind::gone;
}

}  // namespace

WatchBoard::WatchBoard() : wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (wake.number() < 0) throw std::system_error(errno, std::generic_category(), "eventfd");
}

void WatchBoard::post(Wish what) {
  const std::scoped_lock lock(mutex);
  wish = what;
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(wake.number(), &one, sizeof one);
}

void WatchBoard::wait_until_over(double most_seconds) {
  std::unique_lock lock(mutex);
  changed.wait_for(lock, std::chrono::duration<double>(most_seconds), [&] { return is_over; });
}

WatchLoop::WatchLoop(RankConnections connections, double silence_seconds, WatchBoard& board)
    : connections_(std::move(connections)),
      silence_seconds_(silence_seconds),
      heartbeat_seconds_(std::min(1.0, silence_seconds / 4)),
      board_(board),
      heard_(connections_.peers.size()) {}

void WatchLoop::run() {
  double before = now(), next_heartbeat = before;
  while (is_anyone_left() && wish_ != Wish::end) {
    wait(next_heartbeat);
    // After a stop of this process, what the others have said meanwhile is yet to be heard.
    clock_ += std::min(now() - before, 2 * heartbeat_seconds_);
    before = now();
    for (int rank = 0; rank < std::ssize(connections_.peers); ++rank) listen_to(rank);
    take_wish();
    if (now() >= next_heartbeat) {
      look_for_silence();
      send_heartbeats();
      next_heartbeat = now() + heartbeat_seconds_;
    }
    flush();
  }
  say_last_words();
  connections_.peers.clear();
  const std::scoped_lock lock(board_.mutex);
  board_.is_over = true;
  board_.changed.notify_all();
}

Connection& WatchLoop::connection(int rank) {
  return connections_.peers[static_cast<std::size_t>(rank)].connection;
}

bool WatchLoop::is_anyone_left() const {
  return std::ranges::any_of(connections_.peers,
                             [](const Peer& peer) { return peer.connection.is_open(); });
}

void WatchLoop::wait(double deadline) {
  std::vector<pollfd> sockets = {{.fd = board_.wake.number(), .events = POLLIN, .revents = 0}};
  for (const Peer& peer : connections_.peers) {
    if (peer.connection.is_open()) sockets.push_back(peer.connection.wanted());
  }
  wait_for(sockets, deadline);
  std::uint64_t times = 0;
  [[maybe_unused]] const auto size = ::read(board_.wake.number(), &times, sizeof times);
}

void WatchLoop::flush() {
  for (Peer& peer : connections_.peers) peer.connection.flush();
}

void WatchLoop::say_last_words() {
  const auto has_unsent = [](const Peer& peer) { return peer.connection.has_unsent(); };
  const double deadline = now() + kLoopLastWords;
  for (flush(); std::ranges::any_of(connections_.peers, has_unsent) && now() < deadline; flush()) {
    wait(deadline);
  }
}

void WatchLoop::take_wish() {
  Message own_failure{.kind = MessageKind::failed};
  {
    const std::scoped_lock lock(board_.mutex);
    if (board_.wish == wish_) return;
    wish_ = board_.wish;
    own_failure = board_.own_failure;
  }
  if (wish_ == Wish::fail) {
    is_failing_ = true;
    tell_all(own_failure);
  } else if (wish_ == Wish::leave) {
    is_leaving_ = true;
    // Rank 0 stays until the others have left: without it nobody would see who fails.
    if (!is_rank_0()) tell_all({.kind = MessageKind::leaving});
  } else if (is_leaving_ && is_rank_0()) {
    tell_all({.kind = MessageKind::leaving});
  }
}

void WatchLoop::listen_to(int rank) {
  connection(rank).receive();
  while (const auto message = connection(rank).next()) hear(rank, *message);
  if (connection(rank).is_over()) see_end(rank);
}

void WatchLoop::hear(int rank, const Message& message) {
  switch (message.kind) {
    case MessageKind::heartbeat:
      heard_[static_cast<std::size_t>(rank)] = {clock_, message.number};
      if (!is_rank_0()) {
        const std::scoped_lock lock(board_.mutex);
        board_.least = {message.rank, message.number};
      }
      break;
    case MessageKind::leaving:
      connection(rank).close();
      break;
    case MessageKind::gone:
    case MessageKind::failed:
    case MessageKind::silent:
      learn(message);
      break;
    default:
      break;  // of the rendezvous
  }
}

// The end of a connection is what others answer to who leaves or fails.
void WatchLoop::see_end(int rank) {
  connection(rank).close();
  if (is_failing_ || (is_leaving_ && !is_rank_0())) return;
  const std::string& host = connections_.peers[static_cast<std::size_t>(rank)].host;
  learn({.kind = MessageKind::gone,
         .rank = rank,
         .text = fmt::format("rank {} on {} is gone: its process has ended", rank, host)});
}

// Rank 0 tells the others, which have then nothing more to watch. Of what comes after the first
// failure most is its consequence. This process may end as soon as it knows: it knows last.
void WatchLoop::learn(const Message& failure) {
  const bool is_own = failure.rank == connections_.rank;
  const bool is_echo = is_own && failure.kind == MessageKind::failed;
  const bool is_first = !board_.has_failure && !is_echo;
  if (is_first && is_rank_0()) tell_all(failure);
  flush();
  if (!is_rank_0()) connection(0).close();
  if (!is_first) return;
  const std::scoped_lock lock(board_.mutex);
  board_.failure = {failure.rank, kind_of(failure),
                    is_own ? "this is what the others saw: " + failure.text : failure.text,
                    static_cast<int>(failure.number), now()};
  board_.has_failure = true;
}

void WatchLoop::look_for_silence() {
  for (int rank = 0; rank < std::ssize(connections_.peers); ++rank) {
    const auto at = static_cast<std::size_t>(rank);
    if (!connection(rank).is_open() || clock_ - heard_[at].at <= silence_seconds_) continue;
    const Message failure = {
        .kind = MessageKind::silent,
        .rank = rank,
        .text = fmt::format("rank {} on {} has been silent for {} s: it is stopped, or cut off",
                            rank, connections_.peers[at].host, silence_seconds_)};
    if (!is_rank_0()) connection(0).send(failure);  // it may wake up and wonder where all are
    learn(failure);
  }
}

// Rank 0 says who is least far, the others how far they are.
void WatchLoop::send_heartbeats() {
  RankProgress least{.rank = connections_.rank, .progress = board_.progress};
  if (is_rank_0()) {
    for (int rank = 1; rank < std::ssize(connections_.peers); ++rank) {
      const std::int64_t progress = heard_[static_cast<std::size_t>(rank)].progress;
      if (connection(rank).is_open() && progress < least.progress) least = {rank, progress};
    }
    const std::scoped_lock lock(board_.mutex);
    board_.least = least;
  }
  if (is_failing_ || (is_leaving_ && !is_rank_0())) return;
  for (Peer& peer : connections_.peers) {
    if (peer.connection.has_unsent()) continue;
    peer.connection.send(
        {.kind = MessageKind::heartbeat, .rank = least.rank, .number = least.progress});
  }
}

void WatchLoop::tell_all(const Message& message) {
  for (Peer& peer : connections_.peers) peer.connection.send(message);
}

}  // namespace lathe
