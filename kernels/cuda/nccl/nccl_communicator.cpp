#include "nccl_communicator.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/clock.h"
#include "lathe/cuda.h"
#include "lathe/error.h"
#include "lathe/nccl.h"
#include "nccl_loader.h"
#include "ranks/waiting.h"
#include "run/session_facts.h"

namespace lathe {
namespace {

constexpr std::size_t kPiece = std::size_t{1} << 18;  // bytes that a rank says at a time

// The elements of each part, where all have as many one after another; 0: they have not.
std::int64_t equal_size(std::span<const ElementRange> parts) {
  const std::int64_t size = parts.front().end - parts.front().begin;
  const auto has_size = [&](const ElementRange& part) { return part.end - part.begin == size; };
  return std::ranges::all_of(parts, has_size) ? size : 0;
}

std::int64_t bytes_of(const Tensor& values, std::span<const ElementRange> parts) {
  return (parts.back().end - parts.front().begin) * size_of(values.type());
}

// One call for each part that is not empty, together: call(the part's rank, its memory, bytes).
template <class Call>
ncclResult_t for_each_part(const Tensor& values, std::span<const ElementRange> parts,
                           const Call& call) {
  ncclResult_t first_failure = ncclGroupStart();
  for (std::size_t rank = 0; rank < parts.size(); ++rank) {
    const auto [begin, end] = parts[rank];
    if (begin == end || is_failure(first_failure)) continue;
    const Tensor part = values.slice(begin, end - begin);
    first_failure = call(static_cast<int>(rank), part);
  }
  const ncclResult_t result = ncclGroupEnd();
  return is_failure(first_failure) ? first_failure : result;
}

std::size_t count_of(const Tensor& values) {
  return static_cast<std::size_t>(values.count());
}

std::size_t size_in_bytes(const Tensor& values) {
  return static_cast<std::size_t>(values.bytes());
}

}  // namespace

NcclCommunicator::NcclCommunicator(RankConnections connections, const std::string& id, int gpu,
                                   double timeout)
    : rank_(connections.rank),
      size_(static_cast<int>(connections.peers.size())),
      timeout_(timeout),
      watch_(std::move(connections), most_silence(timeout)) {
  try {
    use_gpu(gpu);
    join(id);
  } catch (const std::exception&) {
    say_end(watch_, current_failure());
    abort();
    throw;
  }
}

void NcclCommunicator::join(const std::string& id) {
  stream_ = cuda::make_stream();
  computed_ = take_event();
  spoken_ = take_event();
  const std::size_t bytes = kPiece * (static_cast<std::size_t>(size_) + 1);
  host_ = cuda::make_pinned_memory(bytes);
  device_ = cuda::take_memory(static_cast<std::int64_t>(bytes));
  ncclUniqueId nccl_id{};
  if (id.size() != sizeof nccl_id) throw Error(ExitCode::internal, "[NCCL] an id of another size");
  std::memcpy(&nccl_id, id.data(), sizeof nccl_id);
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  watch_.set_progress(progress_ = kJoining);
  require(ncclCommInitRankConfig(&nccl_, size_, nccl_id, rank_, &config), "joining");
  hosts_ = gather(host_name());
  local_size_ = static_cast<int>(std::ranges::count(hosts_, host_name()));
}

std::string NcclCommunicator::name_of(int rank) const {
  const auto index = static_cast<std::size_t>(rank);
  if (index >= hosts_.size()) return Communicator::name_of(rank);
  return fmt::format("rank {} on {}", rank, hosts_[index]);
}

void NcclCommunicator::attach(Backend& backend) {
  auto& gpu = dynamic_cast<CudaBackend&>(backend);
  computing_ = gpu.stream();
  gpu.set_before_wait([this] { await(computing_); });
}

// `call` gives it to NCCL. What comes behind it in the stream does so only once NCCL has given it
// to the GPU.
template <class Call>
void NcclCommunicator::start(const char* name, std::int64_t bytes, const Call& call) {
  require_open();
  Collective collective{.name = name,
                        .bytes = bytes,
                        .begin = std::chrono::steady_clock::now(),
                        .reached = take_event(),
                        .done = take_event()};
  cuda::check(cudaEventRecord(collective.reached.get(), stream_.get()), "cudaEventRecord");
  require(call(), name);
  cuda::check(cudaEventRecord(collective.done.get(), stream_.get()), "cudaEventRecord");
  started_.push_back(std::move(collective));
}

// What is said from here on comes after all that was computed before.
void NcclCommunicator::after_computing() {
  cuda::check(cudaEventRecord(computed_.get(), computing_), "cudaEventRecord");
  cuda::check(cudaStreamWaitEvent(stream_.get(), computed_.get(), 0), "cudaStreamWaitEvent");
}

void NcclCommunicator::start_reduce_scatter(const Tensor& values,
                                            std::span<const ElementRange> parts) {
  after_computing();
  start("reduce_scatter", bytes_of(values, parts), [&] {
    if (const std::int64_t each = equal_size(parts); each > 0) {
      const Tensor mine = values.slice(parts[static_cast<std::size_t>(rank_)].begin, each);
      const Tensor all = values.slice(parts.front().begin, each * size_);
      return ncclReduceScatter(all.data(), mine.data(), count_of(mine), ncclFloat32, ncclSum, nccl_,
                               stream_.get());
    }
    return for_each_part(values, parts, [&](int owner, const Tensor& part) {
      return ncclReduce(part.data(), part.data(), count_of(part), ncclFloat32, ncclSum, owner,
                        nccl_, stream_.get());
    });
  });
}

void NcclCommunicator::start_all_gather(const Tensor& values, std::span<const ElementRange> parts) {
  after_computing();
  start("all_gather", bytes_of(values, parts), [&] {
    if (const std::int64_t each = equal_size(parts); each > 0) {
      const Tensor mine = values.slice(parts[static_cast<std::size_t>(rank_)].begin, each);
      const Tensor all = values.slice(parts.front().begin, each * size_);
      return ncclAllGather(mine.data(), all.data(), size_in_bytes(mine), ncclUint8, nccl_,
                           stream_.get());
    }
    return for_each_part(values, parts, [&](int owner, const Tensor& part) {
      return ncclBroadcast(part.data(), part.data(), size_in_bytes(part), ncclUint8, owner, nccl_,
                           stream_.get());
    });
  });
}

// It is the GPU that waits, for what was started so far.
void NcclCommunicator::wait() {
  require_open();
  cuda::check(cudaEventRecord(spoken_.get(), stream_.get()), "cudaEventRecord");
  cuda::check(cudaStreamWaitEvent(computing_, spoken_.get(), 0), "cudaStreamWaitEvent");
}

void NcclCommunicator::sum(const Tensor& values) {
  after_computing();
  start("sum", values.bytes(), [&] {
    return ncclAllReduce(values.data(), values.data(), count_of(values), ncclFloat32, ncclSum,
                         nccl_, stream_.get());
  });
  wait();
}

void NcclCommunicator::sum(std::span<double> values) {
  constexpr std::size_t kMost = kPiece / sizeof(double);
  for (std::size_t at = 0; at < values.size(); at += kMost) {
    const std::span<double> piece = values.subspan(at, std::min(kMost, values.size() - at));
    require_open();
    std::memcpy(host_.get(), piece.data(), piece.size_bytes());
    cuda::check(cudaMemcpyAsync(device_.get(), host_.get(), piece.size_bytes(),
                                cudaMemcpyHostToDevice, stream_.get()),
                "cudaMemcpyAsync");
    start("sum", static_cast<std::int64_t>(piece.size_bytes()), [&] {
      return ncclAllReduce(device_.get(), device_.get(), piece.size(), ncclFloat64, ncclSum, nccl_,
                           stream_.get());
    });
    cuda::check(cudaMemcpyAsync(host_.get(), device_.get(), piece.size_bytes(),
                                cudaMemcpyDeviceToHost, stream_.get()),
                "cudaMemcpyAsync");
    await(stream_.get());
    std::memcpy(piece.data(), host_.get(), piece.size_bytes());
  }
}

// `bytes` of each rank, at most a piece, one rank after another: until the next call. Where this
// one has fewer, what lies behind them is of no use.
std::span<const std::byte> NcclCommunicator::all_gather(std::span<const std::byte> mine,
                                                        std::size_t bytes) {
  require_open();
  std::byte* const host_all = host_.get() + kPiece;
  std::byte* const device_all = device_.get() + kPiece;
  const std::size_t all_bytes = bytes * static_cast<std::size_t>(size_);
  std::ranges::copy(mine, host_.get());
  cuda::check(
      cudaMemcpyAsync(device_.get(), host_.get(), bytes, cudaMemcpyHostToDevice, stream_.get()),
      "cudaMemcpyAsync");
  start("gather", static_cast<std::int64_t>(all_bytes), [&] {
    return ncclAllGather(device_.get(), device_all, bytes, ncclUint8, nccl_, stream_.get());
  });
  cuda::check(
      cudaMemcpyAsync(host_all, device_all, all_bytes, cudaMemcpyDeviceToHost, stream_.get()),
      "cudaMemcpyAsync");
  await(stream_.get());
  return {host_all, all_bytes};
}

std::vector<std::string> NcclCommunicator::gather(const std::string& text) {
  const auto count = static_cast<std::size_t>(size_);
  const std::uint64_t own_size = text.size();
  std::vector<std::uint64_t> sizes(count);
  const std::span<const std::byte> all_sizes =
      all_gather(std::as_bytes(std::span(&own_size, 1)), sizeof own_size);
  std::ranges::copy(all_sizes, std::as_writable_bytes(std::span(sizes)).begin());
  std::vector<std::string> texts(count);
  const std::uint64_t largest = *std::ranges::max_element(sizes);
  for (std::uint64_t at = 0; at < largest; at += kPiece) {
    const std::size_t bytes = std::min<std::uint64_t>(kPiece, largest - at);
    const std::string piece = text.substr(std::min<std::uint64_t>(at, own_size), bytes);
    const std::span<const std::byte> all = all_gather(std::as_bytes(std::span(piece)), bytes);
    for (std::size_t rank = 0; rank < count; ++rank) {
      const std::uint64_t left = sizes[rank] - std::min(at, sizes[rank]);
      texts[rank].append(reinterpret_cast<const char*>(all.data()) + rank * bytes,
                         std::min<std::uint64_t>(bytes, left));
    }
  }
  return texts;
}

void NcclCommunicator::require_others() {
  lathe::require_others(watch_);
}

cuda::OwnedEvent NcclCommunicator::take_event() {
  if (free_events_.empty()) return cuda::make_event(cudaEventDisableTiming);
  cuda::OwnedEvent event = std::move(free_events_.back());
  free_events_.pop_back();
  return event;
}

std::string why_no_nccl() {
  const std::string problem = cuda::nccl_load_problem();
  return problem.empty() ? "" : fmt::format("NCCL cannot be loaded: {}", problem);
}

std::string make_nccl_id() {
  ncclUniqueId id{};
  if (const ncclResult_t result = ncclGetUniqueId(&id); result != ncclSuccess) {
    throw Error(ExitCode::peer, fmt::format("NCCL, making an id: {}: {}",
                                            ncclGetErrorString(result), ncclGetLastError(nullptr)));
  }
  return {reinterpret_cast<const char*>(&id), sizeof id};
}

std::unique_ptr<Communicator> make_nccl_communicator(RankConnections connections, int gpu,
                                                     double timeout) {
  const std::string id = connections.from_rank_0;
  return std::make_unique<NcclCommunicator>(std::move(connections), id, gpu, timeout);
}

}  // namespace lathe
