// TCP between processes. No call here waits unless it is given a deadline, no end of a connection
// raises a signal, and a program that is started inherits none of the sockets.
#pragma once

#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "lathe/files.h"
#include "messages.h"

namespace lathe {

// Listens at all addresses of this machine, IPv4 and IPv6.
class Listener {
 public:
  // Port 0: any that is free. Throws Error(usage) naming the port.
  explicit Listener(int port);

  int port() const { return port_; }
  int number() const { return socket_.number(); }
  // A connection that has come; its number is negative when none has. Throws Error(peer) when this
  // process may open no more.
  FileDescriptor accept() const;

 private:
  FileDescriptor socket_;
  int port_ = 0;
};

// The addresses at which other machines may reach this one, loopback last.
std::vector<std::string> own_addresses();

struct SocketAddress {
  sockaddr_storage address;
  socklen_t size;
};

// Empty with the reason in `problem` when nobody knows the host. Takes as long as the system's
// resolver does.
std::vector<SocketAddress> resolve(const std::string& host, int port, std::string& problem);

// Negative with the reason in `problem` when nobody has answered by the deadline, a time of now().
FileDescriptor connect_to(const SocketAddress& to, double deadline, std::string& problem);

// Waits until one of `sockets` is ready, or the deadline. Returns early after a signal.
void wait_for(std::span<pollfd> sockets, double deadline);

// One end of a connection over which messages go. Closed by default.
class Connection {
 public:
  Connection() = default;
  explicit Connection(FileDescriptor socket) : socket_(std::move(socket)) {}

  bool is_open() const { return socket_.number() >= 0; }
  pollfd wanted() const;  // what to wait for
  bool has_unsent() const { return !unsent_.empty(); }

  void send(const Message& message);  // with the next flush(); nothing when it is not open
  void flush();                       // sends what can be sent at once
  // Takes in what has come.
  void receive();
  std::optional<Message> next() { return reader_.next(); }
  // The other end is closed, or sends what are no messages. Messages from before may be left.
  bool is_over() const { return is_over_ || reader_.is_broken(); }
  void close();

 private:
  FileDescriptor socket_;
  MessageReader reader_;
  std::string unsent_;
  bool is_over_ = false;
};

}  // namespace lathe
