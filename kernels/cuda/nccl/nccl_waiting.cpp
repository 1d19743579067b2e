// How the host waits for NCCL and for the GPU, neither of which knows whether other ranks live.
#include <fmt/format.h>

#include <utility>

#include "base/clock.h"
#include "lathe/error.h"
#include "nccl_communicator.h"
#include "ranks/waiting.h"

namespace lathe {
namespace {

constexpr std::chrono::microseconds kLongestPause{50};  // of a host that waits for its GPU
constexpr double kHeartbeats = 3;  // seconds until it is known how far each rank is

// Of cudaStreamQuery() and cudaEventQuery().
bool is_over(cudaError_t answer) {
  if (answer == cudaErrorNotReady) {
    cudaGetLastError();  // that is no error of what comes next
    return false;
  }
  cuda::check(answer, "work on the GPU");
  return true;
}

}  // namespace

template <class IsDone>
void NcclCommunicator::wait_until(const IsDone& is_done) {
  const double begin = now();
  try {
    for (Patience patience(kLongestPause); !is_done(); patience.wait()) {
      require_alive(watch_, begin);
      require_in_time();
    }
  } catch (const std::exception&) {
    abort();  // for whoever waits for the GPU from here on
    throw;
  }
}

void NcclCommunicator::await(cudaStream_t stream) {
  wait_until([&] {
    follow();
    return is_over(cudaStreamQuery(stream));
  });
  follow();
}

// Takes note of what is over, of how far this rank is, and of what NCCL has seen.
void NcclCommunicator::follow() {
  if (nccl_ == nullptr) return;
  while (!started_.empty() && is_over(cudaEventQuery(started_.front().done.get()))) {
    Collective& over = started_.front();
    if (trace_ != nullptr) {
      trace_->record({over.name,
                      "communication",
                      {"bytes", over.bytes},
                      over.begin,
                      std::chrono::steady_clock::now()},
                     "communication");
    }
    free_events_.push_back(std::move(over.reached));
    free_events_.push_back(std::move(over.done));
    started_.pop_front();
    ++ended_;
    waiting_since_ = 0;
  }
  const bool waits = !started_.empty() && is_over(cudaEventQuery(started_.front().reached.get()));
  if (waits && waiting_since_ == 0) waiting_since_ = now();
  progress_ = kJoining + ended_ + (waits ? 1 : 0);
  watch_.set_progress(progress_);
  ncclResult_t state = ncclSuccess;
  ncclCommGetAsyncError(nccl_, &state);
  if (is_failure(state)) fail("communication", state);
}

// How far others were at the end of the time is known some heartbeats later.
void NcclCommunicator::require_in_time() {
  if (waiting_since_ == 0 || now() < waiting_since_ + timeout_ + kHeartbeats) return;
  const RankProgress least = watch_.least_progress();
  if (least.progress < progress_) {
    is_first_late_ = least.rank == 0;
    throw Error(ExitCode::peer, fmt::format("{}: nothing heard for {:g} s (--rank-timeout)",
                                            name_of(least.rank), timeout_));
  }
  throw Error(ExitCode::peer,
              fmt::format("NCCL has not come through for {:g} s (--rank-timeout), and no rank is "
                          "behind the others: see the links between the GPUs",
                          timeout_));
}

// Until NCCL has done with the call what it does on the host: met the others for the first time,
// given the GPU its work.
void NcclCommunicator::require(ncclResult_t result, const char* what) {
  const bool waits_already = waiting_since_ > 0;
  if (!waits_already) waiting_since_ = now();
  wait_until([&] {
    if (nccl_ != nullptr && !is_failure(result)) ncclCommGetAsyncError(nccl_, &result);
    return result != ncclInProgress;
  });
  if (!waits_already) waiting_since_ = 0;
  if (is_failure(result)) fail(what, result);
}

// A rank that has died is the reason of what NCCL sees then. Two ranks on one GPU it calls usage.
void NcclCommunicator::fail(const char* what, ncclResult_t result) {
  const std::string message =
      fmt::format("{}: NCCL, {}: {}: {}", name_of(rank_), what, ncclGetErrorString(result),
                  nccl_ == nullptr ? "" : ncclGetLastError(nccl_));
  abort();
  lathe::require_others(watch_);
  throw Error(result == ncclInvalidUsage ? ExitCode::usage : ExitCode::peer, message);
}

void NcclCommunicator::require_open() const {
  if (nccl_ != nullptr) return;
  watch_.require_alive();
  throw Error(ExitCode::peer, fmt::format("{} has left the others", name_of(rank_)));
}

// --- The end ---

// What others have yet to fetch from this rank gets a moment.
void NcclCommunicator::abandon() noexcept {
  constexpr double kMoment = 0.2;  // seconds
  const auto is_idle = [&] {
    const bool is = cudaStreamQuery(stream_.get()) == cudaSuccess;
    cudaGetLastError();
    return is;
  };
  const double end = now() + kMoment;
  for (Patience patience(kLongestPause); !is_idle(); patience.wait()) {
    if (now() > end) return abort();
  }
}

bool NcclCommunicator::leave(const std::optional<Failure>& failure) noexcept {
  if (!failure) finish();
  const std::optional<PeerFailure> other = say_end(watch_, failure);
  abort();
  return !is_first_gone(other) && !is_first_late_;
}

void NcclCommunicator::finish() noexcept {
  try {
    require_open();
    await(stream_.get());
    require(ncclCommFinalize(nccl_), "leaving");
    ncclCommDestroy(std::exchange(nccl_, nullptr));
  } catch (const std::exception&) {
    abort();
  }
}

void NcclCommunicator::abort() noexcept {
  if (nccl_ != nullptr) ncclCommAbort(std::exchange(nccl_, nullptr));
  started_.clear();
}

}  // namespace lathe
