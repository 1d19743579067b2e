// The communicator of ranks that compute on GPUs. Everything that they say goes through NCCL, in
// one stream beside that of computing: texts and numbers of the host as well, so that it is the
// same however the ranks were started. NCCL and the GPU wait for a rank without end; so the host
// waits for neither, but asks again and again, and ends NCCL's world when another rank has failed
// or is late.
#pragma once

#include <nccl.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cuda_backend.h"
#include "lathe/communicator.h"
#include "owned.h"
#include "ranks/peer_watch.h"

namespace lathe {

inline bool is_failure(ncclResult_t result) {
  return result != ncclSuccess && result != ncclInProgress;
}

class NcclCommunicator final : public Communicator {
 public:
  // make_nccl_communicator(). Errors: peer; usage, of two ranks on one GPU.
  NcclCommunicator(RankConnections connections, const std::string& id, int gpu, double timeout);
  ~NcclCommunicator() override { abort(); }

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  bool is_alone() const override { return false; }  // a world of one does all that others do
  int local_size() const override { return local_size_; }
  std::string name_of(int rank) const override;
  void attach(Backend& backend) override;
  void start_reduce_scatter(const Tensor& values, std::span<const ElementRange> parts) override;
  void start_all_gather(const Tensor& values, std::span<const ElementRange> parts) override;
  void wait() override;
  void abandon() noexcept override;
  void sum(const Tensor& values) override;
  void sum(std::span<double> values) override;
  std::vector<std::string> gather(const std::string& text) override;
  void require_others() override;
  void set_trace(Trace* trace) override { trace_ = trace; }
  bool leave(const std::optional<Failure>& failure) noexcept override;

 private:
  // What was given to the GPU, until it is known to be over.
  struct Collective {
    const char* name;
    std::int64_t bytes;
    SteadyTime begin;
    cuda::OwnedEvent reached, done;  // this rank has come to it; it is over
  };

  void join(const std::string& id);
  template <class Call>
  void start(const char* name, std::int64_t bytes, const Call& call);
  void after_computing();
  std::span<const std::byte> all_gather(std::span<const std::byte> mine, std::size_t bytes);
  cuda::OwnedEvent take_event();

  template <class IsDone>
  void wait_until(const IsDone& is_done);
  void await(cudaStream_t stream);
  void follow();
  void require_in_time();
  void require(ncclResult_t result, const char* what);
  [[noreturn]] void fail(const char* what, ncclResult_t result);
  void require_open() const;
  void finish() noexcept;
  void abort() noexcept;

  static constexpr std::int64_t kJoining = 1;  // how far a rank is that has come to its first call

  const int rank_, size_;
  const double timeout_;
  PeerWatch watch_;
  std::vector<std::string> hosts_;  // by rank
  int local_size_ = 1;
  bool is_first_late_ = false;  // the first rank

  cuda::OwnedStream stream_;
  cudaStream_t computing_ = nullptr;    // the backend's
  cuda::OwnedEvent computed_, spoken_;  // for one stream to wait for the other
  cuda::PinnedMemory host_;             // a piece of this rank, then one of each rank
  Buffer device_;                       // the same
  ncclComm_t nccl_ = nullptr;           // nullptr: it has ended

  std::deque<Collective> started_;
  std::vector<cuda::OwnedEvent> free_events_;
  std::int64_t ended_ = 0;     // collectives
  std::int64_t progress_ = 0;  // how many this rank has come to, and whether it has begun to join
  double waiting_since_ = 0;   // for others, by now(); 0: for nobody
  Trace* trace_ = nullptr;
};

}  // namespace lathe
