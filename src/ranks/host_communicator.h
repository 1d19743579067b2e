// The communicator of ranks whose devices compute in the memory of the host. Every collective is
// one direct exchange: each rank first posts all that it sends, then waits. So a rank that is late
// is the very one whose message is missing; one that is dead or stopped is known to the watch. Sums
// are made by the rank that has the part, in the order of ranks: the same bits in every run.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "job_thread.h"
#include "lathe/communicator.h"
#include "peer_watch.h"
#include "transport.h"

namespace lathe {

class HostCommunicator final : public Communicator {
 public:
  // `timeout`: seconds that another rank may keep this one waiting.
  HostCommunicator(std::unique_ptr<Transport> transport, double timeout);

  int rank() const override { return transport_->rank(); }
  int size() const override { return transport_->size(); }
  int local_size() const override { return local_size_; }
  std::string name_of(int rank) const override;
  void start_reduce_scatter(const Tensor& values, std::span<const ElementRange> parts) override;
  void start_all_gather(const Tensor& values, std::span<const ElementRange> parts) override;
  void wait() override { jobs_.wait(); }
  void abandon() noexcept override { jobs_.stop(); }
  void sum(const Tensor& values) override;
  void sum(std::span<double> values) override;
  std::vector<std::string> gather(const std::string& text) override;
  void require_others() override;
  void set_trace(Trace* trace) override { trace_ = trace; }
  bool leave(const std::optional<Failure>& failure) noexcept override;

 private:
  struct Waiting {
    int rank;
    bool is_receive;
    IsDone is_done;
  };
  // What goes to a rank or comes from it in one exchange.
  struct Outgoing {
    int rank;
    std::span<const std::byte> bytes;
  };
  struct Incoming {
    int rank;
    std::span<std::byte> bytes;
  };

  void exchange(std::span<const Outgoing> out, std::span<const Incoming> in);
  void reduce_scatter(const Tensor& values, std::span<const ElementRange> parts);
  void all_gather(const Tensor& values, std::span<const ElementRange> parts);
  [[noreturn]] void refuse_late(std::span<const Waiting> waiting);
  template <class Visit>
  void for_each_other(const Visit& visit) const;

  std::unique_ptr<Transport> transport_;
  double timeout_;
  int local_size_ = 1;
  std::vector<std::string> hosts_;  // by rank
  std::vector<std::byte> parts_;    // of a sum, one from each rank
  std::optional<PeerWatch> watch_;  // nullopt: this rank has not met the others yet
  Trace* trace_ = nullptr;
  bool is_first_late_ = false;  // the first rank
  bool is_broken_ = false;      // messages are under way that nobody waits for
  JobThread jobs_;              // last: what has been started, while this rank goes on
};

}  // namespace lathe
