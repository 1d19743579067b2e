#include "tcp_rendezvous.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <optional>
#include <random>
#include <span>

#include "base/clock.h"
#include "lathe/error.h"
#include "lathe/stop_signal.h"
#include "run/session_facts.h"

namespace lathe {
namespace {

// Seconds.
constexpr double kLook = 0.1;               // between looks at whether to stop, and between tries
constexpr double kConnect = 2;              // for an address to answer at all
constexpr double kHello = 5;                // for a connection to say who it is
constexpr double kRendezvousLastWords = 5;  // for what rank 0 says to all at the end

constexpr int kMostStrangers = 256, kMostAtOnce = 64;

Error peer_error(const std::string& message) {
  return Error(ExitCode::peer, message);
}

std::string gone_early(int rank, const std::string& host) {
  return fmt::format("rank {} on {} is gone (its process ended) before all ranks had come", rank,
                     host);
}

// A connection to rank 0, maybe of a rank.
struct Guest {
  Connection connection;
  double since;
  int rank = -1;         // -1: a stranger as yet
  bool is_here = false;  // knows that it is welcome; before, it may try again
  std::string host = {};
};

class Gathering {
 public:
  Gathering(const Listener& listener, const Rendezvous& rendezvous)
      : listener_(listener), rendezvous_(rendezvous) {}

  RankConnections run(const std::string& to_all) {
    const double deadline = now() + rendezvous_.timeout_seconds;
    while (!missing().empty()) {
      require_no_stop("waiting for the other ranks");
      if (now() > deadline) give_up(what_is_missing());
      wait(std::min(deadline, now() + kLook));
      accept();
      for (Guest& guest : guests_) attend(guest);
      std::erase_if(guests_, [](const Guest& guest) { return !guest.connection.is_open(); });
    }
    tell_all({.kind = MessageKind::all_here, .text = to_all});
    return result(to_all);
  }

 private:
  std::vector<int> missing() const {
    std::vector<int> ranks;
    for (int rank = 1; rank < rendezvous_.size; ++rank) {
      const auto is_it = [&](const Guest& guest) { return guest.rank == rank && guest.is_here; };
      if (std::ranges::none_of(guests_, is_it)) ranks.push_back(rank);
    }
    return ranks;
  }

  std::string what_is_missing() const {
    constexpr std::size_t kMostNamed = 20;
    const std::vector<int> ranks = missing();
    const std::span named(ranks.begin(), std::min(ranks.size(), kMostNamed));
    return fmt::format("{} {}{} of {} did not come within {} s",
                       ranks.size() == 1 ? "rank" : "ranks", fmt::join(named, ", "),
                       ranks.size() > kMostNamed ? ", ..." : "", rendezvous_.size,
                       rendezvous_.timeout_seconds);
  }

  void wait(double deadline) const {
    std::vector<pollfd> sockets = {{.fd = listener_.number(), .events = POLLIN, .revents = 0}};
    for (const Guest& guest : guests_) sockets.push_back(guest.connection.wanted());
    wait_for(sockets, deadline);
  }

  // A few at a time, which can then say who they are. The oldest stranger makes room: those who say
  // nothing must not keep the ranks out.
  void accept() {
    for (int i = 0; i < kMostAtOnce; ++i) {
      FileDescriptor socket = listener_.accept();
      if (socket.number() < 0) return;
      if (std::ranges::count(guests_, -1, &Guest::rank) >= kMostStrangers) {
        guests_.erase(std::ranges::find(guests_, -1, &Guest::rank));
      }
      guests_.push_back({.connection = Connection(std::move(socket)), .since = now()});
    }
  }

  void attend(Guest& guest) {
    guest.connection.receive();
    while (const auto message = guest.connection.next()) answer(guest, *message);
    guest.connection.flush();
    const bool is_over = guest.connection.is_over();
    if (is_over && guest.is_here) give_up(gone_early(guest.rank, guest.host));
    if (is_over || (!guest.is_here && now() - guest.since > kHello)) guest.connection.close();
  }

  void answer(Guest& guest, const Message& message) {
    const bool is_stranger = guest.rank < 0;
    if (!is_stranger && message.kind == MessageKind::here) {
      guest.is_here = true;
    } else if (is_stranger && message.kind == MessageKind::hello &&
               message.number == static_cast<std::int64_t>(rendezvous_.token)) {
      welcome(guest, message);
    } else {
      guest.connection.close();
    }
  }

  // Who was welcomed and did not hear it comes again.
  void welcome(Guest& guest, const Message& hello) {
    const std::size_t blank = hello.text.find(' ');
    const std::string size = hello.text.substr(0, blank);
    if (size != fmt::format("{}", rendezvous_.size)) {
      return refuse(guest, fmt::format("rank 0 counts {} ranks, and rank {} counts {}",
                                       rendezvous_.size, hello.rank, size));
    }
    if (hello.rank < 1 || hello.rank >= rendezvous_.size) return guest.connection.close();
    const auto same = std::ranges::find(guests_, hello.rank, &Guest::rank);
    if (same != guests_.end() && same->is_here) {
      return refuse(guest, fmt::format("there is a rank {} already, on {}: each rank must be "
                                       "started once",
                                       hello.rank, same->host));
    }
    if (same != guests_.end()) *same = {.connection = Connection(), .since = 0};
    guest.rank = hello.rank;
    guest.host = hello.text.substr(std::min(hello.text.size(), blank + 1));
    guest.connection.send(
        {.kind = MessageKind::welcome, .number = hello.number, .text = message_text(host_name())});
  }

  static void refuse(Guest& guest, const std::string& why) {
    guest.connection.send({.kind = MessageKind::refusal, .text = message_text(why)});
    guest.connection.flush();
    guest.connection.close();
  }

  [[noreturn]] void give_up(const std::string& why) {
    tell_all({.kind = MessageKind::given_up, .text = message_text(why)});
    throw peer_error(why);
  }

  void tell_all(const Message& message) {
    std::erase_if(guests_, [](const Guest& guest) { return guest.rank < 0; });
    for (Guest& guest : guests_) guest.connection.send(message);
    const double deadline = now() + kRendezvousLastWords;
    const auto has_unsent = [](const Guest& guest) { return guest.connection.has_unsent(); };
    for (Guest& guest : guests_) guest.connection.flush();
    while (std::ranges::any_of(guests_, has_unsent) && now() < deadline) {
      wait(std::min(deadline, now() + kLook));
      for (Guest& guest : guests_) guest.connection.flush();
    }
  }

  RankConnections result(const std::string& to_all) {
    RankConnections connections{.from_rank_0 = to_all};
    connections.peers.resize(static_cast<std::size_t>(rendezvous_.size));
    for (Guest& guest : guests_) {
      connections.peers[static_cast<std::size_t>(guest.rank)] = {std::move(guest.connection),
                                                                 guest.host};
    }
    return connections;
  }

  const Listener& listener_;
  const Rendezvous& rendezvous_;
  std::vector<Guest> guests_;
};

// The next message, or none when the connection is over or the time is up.
std::optional<Message> wait_for_message(Connection& connection, double deadline) {
  for (;;) {
    require_no_stop("waiting for the other ranks");
    connection.flush();
    connection.receive();
    if (auto message = connection.next()) return message;
    if (connection.is_over() || now() >= deadline) return std::nullopt;
    pollfd socket = connection.wanted();
    wait_for({&socket, 1}, std::min(deadline, now() + kLook));
  }
}

class Joining {
 public:
  Joining(const std::vector<std::string>& hosts, int port, const Rendezvous& rendezvous)
      : hosts_(hosts), port_(port), rendezvous_(rendezvous) {}

  RankConnections run() {
    const double deadline = now() + rendezvous_.timeout_seconds;
    for (;;) {
      for (const std::string& host : hosts_) {
        for (const SocketAddress& address : resolve(host, port_, problem_)) {
          if (now() < deadline && knock(address, deadline)) return wait_for_all();
        }
        if (now() < deadline) continue;
        throw peer_error(fmt::format("rank 0 did not answer at {}, port {}, within {} s: {}",
                                     fmt::join(hosts_, ", "), port_, rendezvous_.timeout_seconds,
                                     problem_));
      }
      require_no_stop("waiting for rank 0");
      wait_for({}, std::min(deadline, now() + kLook));
    }
  }

 private:
  bool knock(const SocketAddress& address, double deadline) {
    const auto token = static_cast<std::int64_t>(rendezvous_.token);
    FileDescriptor socket = connect_to(address, std::min(deadline, now() + kConnect), problem_);
    if (socket.number() < 0) return false;
    rank_0_.connection = Connection(std::move(socket));
    rank_0_.connection.send(
        {.kind = MessageKind::hello,
         .rank = rendezvous_.rank,
         .number = token,
         .text = message_text(fmt::format("{} {}", rendezvous_.size, host_name()))});
    const auto answer = wait_for_message(rank_0_.connection, std::min(deadline, now() + kHello));
    if (answer && answer->kind == MessageKind::refusal) throw Error(ExitCode::usage, answer->text);
    if (!answer || answer->kind != MessageKind::welcome || answer->number != token) {
      problem_ = "who listens there is not rank 0 of this run";
      return false;
    }
    rank_0_.host = answer->text;
    rank_0_.connection.send({.kind = MessageKind::here});
    return true;
  }

  // Rank 0 began to wait before it said welcome, and says when its time is up.
  RankConnections wait_for_all() {
    const double seconds = rendezvous_.timeout_seconds + kRendezvousLastWords;
    const auto message = wait_for_message(rank_0_.connection, now() + seconds);
    if (!message && rank_0_.connection.is_over()) throw peer_error(gone_early(0, rank_0_.host));
    if (message && message->kind == MessageKind::given_up) throw peer_error(message->text);
    if (!message || message->kind != MessageKind::all_here) {
      throw peer_error(fmt::format("rank 0 on {} did not say within {} s that all ranks had come",
                                   rank_0_.host, seconds));
    }
    RankConnections connections{.rank = rendezvous_.rank, .from_rank_0 = message->text};
    connections.peers.resize(static_cast<std::size_t>(rendezvous_.size));
    connections.peers[0] = std::move(rank_0_);
    return connections;
  }

  const std::vector<std::string>& hosts_;
  int port_;
  const Rendezvous& rendezvous_;
  Peer rank_0_;
  std::string problem_ = "the time is up";  // of the last try
};

}  // namespace

std::uint64_t random_token() {
  std::random_device device;
  return std::uint64_t{device()} << 32 | device();
}

std::uint64_t token_of(const std::string& text) {
  Checksum checksum;
  checksum.update(std::as_bytes(std::span(text)));
  return checksum.value();
}

RankConnections gather_ranks(const Listener& listener, const Rendezvous& rendezvous,
                             const std::string& to_all) {
  return Gathering(listener, rendezvous).run(to_all);
}

RankConnections join_rank_0(const std::vector<std::string>& hosts, int port,
                            const Rendezvous& rendezvous) {
  return Joining(hosts, port, rendezvous).run();
}

}  // namespace lathe
