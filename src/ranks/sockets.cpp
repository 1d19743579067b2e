#include "sockets.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <memory>
#include <system_error>

#include "base/clock.h"
#include "lathe/error.h"

namespace lathe {
namespace {

std::string reason(int error) {
  return std::generic_category().message(error);
}

FileDescriptor make_socket(int family) {
  return FileDescriptor(::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}

void set(const FileDescriptor& socket, int level, int option, int value) {
  ::setsockopt(socket.number(), level, option, &value, sizeof value);
}

SocketAddress any_address(int family, int port) {
  SocketAddress result{};
  if (family == AF_INET6) {
    auto& address = reinterpret_cast<sockaddr_in6&>(result.address);
    address.sin6_port = htons(static_cast<std::uint16_t>(port));
    address.sin6_addr = in6addr_any;
    result.size = sizeof address;
  } else {
    auto& address = reinterpret_cast<sockaddr_in&>(result.address);
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_ANY);
    result.size = sizeof address;
  }
  result.address.ss_family = static_cast<sa_family_t>(family);
  return result;
}

const sockaddr* plain(const SocketAddress& address) {
  return reinterpret_cast<const sockaddr*>(&address.address);
}

int port_of(const FileDescriptor& socket) {
  SocketAddress own{{}, sizeof own.address};
  ::getsockname(socket.number(), reinterpret_cast<sockaddr*>(&own.address), &own.size);
  return ntohs(own.address.ss_family == AF_INET6
                   ? reinterpret_cast<const sockaddr_in6&>(own.address).sin6_port
                   : reinterpret_cast<const sockaddr_in&>(own.address).sin_port);
}

// Listening, or negative with errno. IPv6 takes IPv4's connections as well.
FileDescriptor listen_at(int family, int port) {
  FileDescriptor socket = make_socket(family);
  if (socket.number() < 0) return socket;
  set(socket, SOL_SOCKET, SO_REUSEADDR, 1);  // also while connections of the last run linger
  if (family == AF_INET6) set(socket, IPPROTO_IPV6, IPV6_V6ONLY, 0);
  const SocketAddress address = any_address(family, port);
  if (::bind(socket.number(), plain(address), address.size) != 0 ||
      ::listen(socket.number(), SOMAXCONN) != 0) {
    const int error = errno;
    socket = FileDescriptor();
    errno = error;
  }
  return socket;
}

// Small messages go at once.
FileDescriptor without_delay(FileDescriptor socket) {
  if (socket.number() >= 0) set(socket, IPPROTO_TCP, TCP_NODELAY, 1);
  return socket;
}

std::string numeric(const sockaddr* address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  const void* bytes =
      address->sa_family == AF_INET6
          ? static_cast<const void*>(&reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr)
          : &reinterpret_cast<const sockaddr_in*>(address)->sin_addr;
  return ::inet_ntop(address->sa_family, bytes, text.data(), text.size()) == nullptr ? ""
                                                                                     : text.data();
}

bool is_link_local(const sockaddr* address) {
  return address->sa_family == AF_INET6 &&
         IN6_IS_ADDR_LINKLOCAL(&reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr);
}

}  // namespace

Listener::Listener(int port) : socket_(listen_at(AF_INET6, port)) {
  // A machine without IPv6.
  if (socket_.number() < 0 && errno != EADDRINUSE) socket_ = listen_at(AF_INET, port);
  if (socket_.number() < 0) {
    throw Error(ExitCode::usage, fmt::format("port {}: cannot listen there: {}; give another one",
                                             port, reason(errno)));
  }
  port_ = port_of(socket_);
}

FileDescriptor Listener::accept() const {
  FileDescriptor socket(
      ::accept4(socket_.number(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (socket.number() < 0 && (errno == EMFILE || errno == ENFILE)) {
    throw Error(ExitCode::peer, fmt::format("rank 0 cannot take a connection of another rank: {}; "
                                            "raise the limit of ulimit -n",
                                            reason(errno)));
  }
  return without_delay(std::move(socket));
}

std::vector<std::string> own_addresses() {
  ifaddrs* found = nullptr;
  if (::getifaddrs(&found) != 0) found = nullptr;
  const std::unique_ptr<ifaddrs, decltype(&freeifaddrs)> owner(found, freeifaddrs);
  std::vector<std::string> result, loopback;
  for (const ifaddrs* each = found; each != nullptr; each = each->ifa_next) {
    const sockaddr* address = each->ifa_addr;
    if (address == nullptr || (each->ifa_flags & IFF_UP) == 0 || is_link_local(address)) continue;
    if (address->sa_family != AF_INET && address->sa_family != AF_INET6) continue;
    ((each->ifa_flags & IFF_LOOPBACK) == 0 ? result : loopback).push_back(numeric(address));
  }
  std::ranges::copy(loopback, std::back_inserter(result));
  return result;
}

std::vector<SocketAddress> resolve(const std::string& host, int port, std::string& problem) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int error = ::getaddrinfo(host.c_str(), fmt::format("{}", port).c_str(), &hints, &found);
  if (error != 0) {
    problem = error == EAI_SYSTEM ? reason(errno) : ::gai_strerror(error);
    return {};
  }
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(found, freeaddrinfo);
  std::vector<SocketAddress> result;
  for (const addrinfo* each = found; each != nullptr; each = each->ai_next) {
    SocketAddress address{{}, each->ai_addrlen};
    std::copy_n(reinterpret_cast<const char*>(each->ai_addr), each->ai_addrlen,
                reinterpret_cast<char*>(&address.address));
    result.push_back(address);
  }
  return result;
}

FileDescriptor connect_to(const SocketAddress& to, double deadline, std::string& problem) {
  FileDescriptor socket = make_socket(to.address.ss_family);
  // A try at a port of this machine at which nobody listens yet can meet itself: it must not keep
  // the port from who wants to listen there.
  if (socket.number() >= 0) set(socket, SOL_SOCKET, SO_REUSEADDR, 1);
  int error = socket.number() < 0 ? errno : 0;
  if (error == 0 && ::connect(socket.number(), plain(to), to.size) != 0) error = errno;
  if (error == EINPROGRESS || error == EINTR) {
    pollfd connecting{.fd = socket.number(), .events = POLLOUT, .revents = 0};
    while (connecting.revents == 0 && now() < deadline) wait_for({&connecting, 1}, deadline);
    socklen_t size = sizeof error;
    error = ETIMEDOUT;
    if (connecting.revents != 0) {
      ::getsockopt(socket.number(), SOL_SOCKET, SO_ERROR, &error, &size);
    }
  }
  if (error == 0) return without_delay(std::move(socket));
  problem = reason(error);
  return FileDescriptor();
}

void wait_for(std::span<pollfd> sockets, double deadline) {
  const double milliseconds = std::ceil(1e3 * std::clamp(deadline - now(), 0.0, 60.0));
  ::poll(sockets.data(), sockets.size(), static_cast<int>(milliseconds));
}

pollfd Connection::wanted() const {
  const int events = has_unsent() ? POLLIN | POLLOUT : POLLIN;
  return {.fd = socket_.number(), .events = static_cast<short>(events), .revents = 0};
}

void Connection::send(const Message& message) {
  if (is_open()) unsent_ += encode(message);
}

// When the other end is gone, receive() will tell, after what it said before.
void Connection::flush() {
  while (is_open() && has_unsent()) {
    const auto sent =
        ::send(socket_.number(), unsent_.data(), unsent_.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno != EAGAIN) unsent_.clear();
    if (sent < 0) return;
    unsent_.erase(0, static_cast<std::size_t>(sent));
  }
}

// At most a few pieces: whoever sends without end does not keep the others waiting.
void Connection::receive() {
  constexpr int kMostPieces = 4;
  std::array<char, 4096> piece;
  for (int i = 0; i < kMostPieces && is_open() && !is_over(); ++i) {
    const auto size = ::recv(socket_.number(), piece.data(), piece.size(), MSG_DONTWAIT);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0 && errno == EAGAIN) return;
    if (size <= 0) {
      is_over_ = true;
    } else {
      reader_.add({piece.data(), static_cast<std::size_t>(size)});
    }
  }
}

void Connection::close() {
  *this = Connection();
}

}  // namespace lathe
