// How bytes get from the memory of one rank into that of another. Nothing here waits: whoever waits
// asks again and again, so that a wait can have an end.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>

namespace lathe {

// Asked whether a message has been sent, or has come; nobody asks again once it has.
using IsDone = std::function<bool()>;

class Transport {
 public:
  virtual ~Transport() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;

  // Messages from one rank to another come in the order in which they were sent. The memory must
  // last until the message is done. Errors: peer.
  virtual IsDone start_send(int to, std::span<const std::byte> bytes) = 0;
  virtual IsDone start_receive(int from, std::span<std::byte> bytes) = 0;

  // All ranks do so, and nothing is under way. Where one does not come within `seconds` after all,
  // this process ends.
  virtual void close(double /*seconds*/) noexcept {}
};

// MPI's ranks. Errors: usage, where this build has no MPI, or MPI knows of another number of ranks
// than the launcher, `size`.
std::unique_ptr<Transport> make_mpi_transport(const std::string& launcher, int size);

}  // namespace lathe
