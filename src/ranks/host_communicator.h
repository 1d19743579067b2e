// The communicator of ranks whose devices compute in the memory of the host. Every collective is
// one direct exchange: each rank first posts all that it sends, then waits. So a rank that is late
// or stopped is the very one whose message is missing. Sums are made by the rank that has the part,
// in the order of ranks: the same bits in every run.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "job_thread.h"
#include "lathe/communicator.h"
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
  void sum(const Tensor& values) override;
  void sum(std::span<double> values) override;
  std::vector<std::string> gather(const std::string& text) override;
  std::vector<std::string> leave(const std::string& failure) noexcept override;

 private:
  struct Waiting {
    int rank;
    bool is_receive;
    IsDone is_done;
  };
  // What a rank says when it ends: whether it has failed, and how.
  struct Farewell {
    std::vector<std::byte> bytes;
    IsDone is_done;
    bool has_come = false;

    bool is_heard();
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
  void expect_farewells();
  void hear_farewells();
  void refuse_missing(std::span<const Waiting> waiting);
  [[noreturn]] void refuse_late(std::span<const Waiting> waiting);
  template <class Visit>
  void for_each_other(const Visit& visit) const;

  std::unique_ptr<Transport> transport_;
  double timeout_;
  int local_size_ = 1;
  std::vector<std::string> hosts_;   // by rank
  std::vector<Farewell> farewells_;  // by rank
  std::vector<std::byte> parts_;     // of a sum, one from each rank
  std::vector<bool> is_late_;        // by rank
  bool is_broken_ = false;           // messages are under way that nobody waits for
  JobThread jobs_;                   // last: what has been started, while this rank goes on
};

}  // namespace lathe
