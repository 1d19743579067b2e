// The stand-in for NCCL (ptx_machine/): that work behind a collective waits for it, that a rank
// which does not come can be given up, and that it refuses what NCCL refuses, or hangs at.
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <string>

#include "support/nccl_rank.h"

namespace lathe::test {
namespace {

using NcclWaits = SeveralDevices;
using NcclRefuses = SeveralDevices;

constexpr auto kMoment = std::chrono::milliseconds(20);

// Memory that the device writes while the host goes on.
struct Pinned {
  float* value = nullptr;
  Pinned() { cudaMallocHost(reinterpret_cast<void**>(&value), sizeof(float)); }
  ~Pinned() { cudaFreeHost(value); }
  Pinned(const Pinned&) = delete;
  Pinned& operator=(const Pinned&) = delete;
};

// Takes NotReady out of the last error, where it stays as on a GPU.
cudaError_t query(cudaStream_t stream) {
  const cudaError_t ready = cudaStreamQuery(stream);
  EXPECT_EQ(cudaGetLastError(), ready);
  return ready;
}

ncclResult_t add(const NcclRank& rank, const OnDevice<float>& value) {
  return ncclAllReduce(value.data(), value.data(), 1, ncclFloat32, ncclSum, rank.communicator,
                       rank.stream);
}

// The second of two ranks, in a thread of its own, comes when it is told to.
class LateRank {
 public:
  explicit LateRank(const ncclUniqueId& id) {
    thread_ = std::thread([this, id] {
      NcclRank rank(id, 1, 2);
      EXPECT_EQ(rank.settle(), ncclSuccess);
      while (!comes_) std::this_thread::yield();
      const OnDevice<float> value({10});
      rank.finish(add(rank, value));
    });
  }
  ~LateRank() { come(); }
  LateRank(const LateRank&) = delete;
  LateRank& operator=(const LateRank&) = delete;

  void come() {
    comes_ = true;
    if (thread_.joinable()) thread_.join();
  }

 private:
  std::atomic<bool> comes_ = false;
  std::thread thread_;
};

TEST_F(NcclWaits, EveryKindOfWorkBehindItAndNoHost) {
  const ncclUniqueId id = new_id();
  LateRank late(id);
  NcclRank rank(id, 0, 2);
  ASSERT_EQ(rank.settle(), ncclSuccess);
  cudaStream_t compute = nullptr;
  cudaStreamCreateWithFlags(&compute, cudaStreamNonBlocking);
  cudaEvent_t added = nullptr;
  cudaEventCreate(&added);
  const OnDevice<float> value({1}), copy({-1});
  const Pinned pinned;
  *pinned.value = -1;

  ASSERT_EQ(add(rank, value), ncclInProgress);
  ASSERT_EQ(rank.settle(), ncclSuccess);
  cudaEventRecord(added, rank.stream);
  cudaStreamWaitEvent(compute, added, 0);
  cudaMemcpyAsync(copy.data(), value.data(), 4, cudaMemcpyDeviceToDevice, compute);
  cudaMemcpyAsync(pinned.value, copy.data(), 4, cudaMemcpyDeviceToHost, compute);
  std::this_thread::sleep_for(kMoment);
  EXPECT_EQ(query(rank.stream), cudaErrorNotReady);
  EXPECT_EQ(query(compute), cudaErrorNotReady);
  EXPECT_EQ(cudaEventQuery(added), cudaErrorNotReady);
  cudaGetLastError();
  EXPECT_EQ(*pinned.value, -1);

  late.come();
  EXPECT_EQ(cudaStreamSynchronize(compute), cudaSuccess);
  EXPECT_EQ(*pinned.value, 11);
  EXPECT_EQ(cudaEventQuery(added), cudaSuccess);
  cudaEventDestroy(added);
  cudaStreamDestroy(compute);
}

// And a graph, which is given to its stream as its parts would be.
TEST_F(NcclWaits, WhatAGraphDoes) {
  const ncclUniqueId id = new_id();
  LateRank late(id);
  NcclRank rank(id, 0, 2);
  ASSERT_EQ(rank.settle(), ncclSuccess);
  const OnDevice<float> value({1});
  const Pinned pinned;
  cudaGraph_t graph = nullptr;
  cudaStreamBeginCapture(rank.stream, cudaStreamCaptureModeThreadLocal);
  cudaMemcpyAsync(pinned.value, value.data(), 4, cudaMemcpyDeviceToHost, rank.stream);
  cudaMemsetAsync(value.data(), 0, 4, rank.stream);
  ASSERT_EQ(cudaStreamEndCapture(rank.stream, &graph), cudaSuccess);
  cudaGraphExec_t executable = nullptr;
  cudaGraphInstantiate(&executable, graph, 0);
  ASSERT_EQ(add(rank, value), ncclInProgress);
  ASSERT_EQ(rank.settle(), ncclSuccess);
  EXPECT_EQ(cudaGraphLaunch(executable, rank.stream), cudaSuccess);
  EXPECT_EQ(query(rank.stream), cudaErrorNotReady);
  late.come();
  EXPECT_EQ(cudaStreamSynchronize(rank.stream), cudaSuccess);
  EXPECT_EQ(*pinned.value, 11);
  EXPECT_EQ(value.values().front(), 0);
  cudaGraphExecDestroy(executable);
  cudaGraphDestroy(graph);
}

// Memory that is not pinned may be gone when the call has returned.
TEST_F(NcclWaits, ForMemoryThatIsNotPinnedWithinTheCall) {
  const ncclUniqueId id = new_id();
  LateRank late(id);
  NcclRank rank(id, 0, 2);
  ASSERT_EQ(rank.settle(), ncclSuccess);
  const OnDevice<float> value({1}), other({2});
  ASSERT_EQ(add(rank, value), ncclInProgress);
  ASSERT_EQ(rank.settle(), ncclSuccess);
  float up = 5;
  cudaMemcpyAsync(other.data(), &up, 4, cudaMemcpyHostToDevice, rank.stream);
  up = 6;
  float down = 0;
  std::thread waker([&] {
    std::this_thread::sleep_for(kMoment);
    late.come();
  });
  cudaMemcpyAsync(&down, value.data(), 4, cudaMemcpyDeviceToHost, rank.stream);
  EXPECT_EQ(down, 11);
  EXPECT_EQ(other.values().front(), 5);
  waker.join();
}

// An event that is recorded before the program has seen that the collective is on its stream.
TEST_F(NcclWaits, OnlyWhereTheCollectiveIsOnItsStream) {
  const ncclUniqueId id = new_id();
  LateRank late(id);
  NcclRank rank(id, 0, 2);
  ASSERT_EQ(rank.settle(), ncclSuccess);
  cudaEvent_t early = nullptr;
  cudaEventCreate(&early);
  const OnDevice<float> value({1});
  ASSERT_EQ(add(rank, value), ncclInProgress);
  cudaEventRecord(early, rank.stream);
  EXPECT_EQ(cudaEventQuery(early), cudaSuccess);
  EXPECT_EQ(rank.state(), ncclInProgress);
  EXPECT_EQ(cudaStreamQuery(rank.stream), cudaSuccess);
  EXPECT_EQ(rank.state(), ncclSuccess);
  EXPECT_EQ(query(rank.stream), cudaErrorNotReady);
  late.come();
  EXPECT_EQ(cudaStreamSynchronize(rank.stream), cudaSuccess);
  cudaEventDestroy(early);
}

TEST_F(NcclWaits, FromTheCallOnInReverseOrder) {
  ptx::machine().options.order = ptx::Order::reverse;
  const ncclUniqueId id = new_id();
  NcclRank other(id, 1, 2), rank(id, 0, 2);
  ASSERT_EQ(rank.settle(), ncclSuccess);
  const OnDevice<float> value({1});
  ASSERT_EQ(add(rank, value), ncclInProgress);
  EXPECT_EQ(query(rank.stream), cudaErrorNotReady);
  rank.abort();
  ptx::machine().options.order = ptx::Order::forward;
}

TEST_F(NcclWaits, UntilItIsAbortedByAnotherThread) {
  const ncclUniqueId id = new_id();
  NcclRank other(id, 1, 2), rank(id, 0, 2);
  ASSERT_EQ(rank.settle(), ncclSuccess);
  const OnDevice<float> value({1});
  const Pinned pinned;
  ASSERT_EQ(add(rank, value), ncclInProgress);
  ASSERT_EQ(rank.settle(), ncclSuccess);
  cudaMemcpyAsync(pinned.value, value.data(), 4, cudaMemcpyDeviceToHost, rank.stream);
  std::thread aborter([&] {
    std::this_thread::sleep_for(kMoment);
    rank.abort();
  });
  EXPECT_EQ(cudaStreamSynchronize(rank.stream), cudaSuccess);
  EXPECT_TRUE(std::isnan(*pinned.value));
  aborter.join();
}

TEST_F(NcclWaits, ForRanksThatNeverCameUntilItIsAborted) {
  NcclRank rank(new_id(), 0, 2);
  std::this_thread::sleep_for(kMoment);
  EXPECT_EQ(rank.state(), ncclInProgress);
  rank.abort();
}

// Another process, which is killed in the middle.
TEST_F(NcclWaits, ForAProcessThatWasKilled) {
  const ncclUniqueId id = new_id();
  const pid_t other = fork();
  if (other == 0) {
    NcclRank rank(id, 1, 2);
    rank.settle();
    const OnDevice<float> value({10});
    rank.finish(add(rank, value));
    for (;;) pause();
  }
  NcclRank rank(id, 0, 2);
  ASSERT_EQ(rank.settle(), ncclSuccess);
  const OnDevice<float> value({1});
  rank.finish(add(rank, value));
  EXPECT_EQ(value.values().front(), 11);
  kill(other, SIGKILL);
  ASSERT_EQ(waitpid(other, nullptr, 0), other);
  ASSERT_EQ(add(rank, value), ncclInProgress);
  ASSERT_EQ(rank.settle(), ncclSuccess);
  std::this_thread::sleep_for(kMoment);
  EXPECT_EQ(query(rank.stream), cudaErrorNotReady);
  EXPECT_EQ(rank.state(), ncclSuccess);  // nothing tells: only patience ends
  rank.abort();
  EXPECT_EQ(query(rank.stream), cudaSuccess);
}

TEST_F(NcclRefuses, WhatItsCallsForbid) {
  NcclRank rank(new_id(), 0, 1);
  ASSERT_EQ(rank.settle(), ncclSuccess);
  const OnDevice<float> values({1, 2, 3, 4});
  const auto refused = [&](const char* why, ncclResult_t result) {
    EXPECT_EQ(result, ncclInvalidArgument) << why;
    EXPECT_NE(std::string(ncclGetLastError(nullptr)).find(why), std::string::npos)
        << ncclGetLastError(nullptr);
    EXPECT_EQ(rank.state(), ncclSuccess);
  };
  const auto all_reduce = [&](const float* from, float* to, std::size_t count,
                              ncclDataType_t type = ncclFloat32, ncclRedOp_t operation = ncclSum) {
    return ncclAllReduce(from, to, count, type, operation, rank.communicator, rank.stream);
  };
  float* data = values.data();
  float host[4] = {};
  refused("no", ncclAllReduce(data, data, 4, ncclFloat32, ncclSum, nullptr, rank.stream));
  refused("send buffer", all_reduce(host, data, 4));
  refused("receive buffer", all_reduce(data, host, 4));
  refused("20 bytes", all_reduce(data, data, 5));
  refused("overlap", all_reduce(data, data + 1, 2));
  refused("type", all_reduce(data, data, 4, ncclFloat16));
  refused("operation", all_reduce(data, data, 4, ncclFloat32, ncclAvg));
  refused("aligned", all_reduce(reinterpret_cast<float*>(reinterpret_cast<char*>(data) + 2),
                                reinterpret_cast<float*>(reinterpret_cast<char*>(data) + 2), 1));
  refused("root 1", ncclBroadcast(data, data, 4, ncclFloat32, 1, rank.communicator, rank.stream));
  EXPECT_EQ(all_reduce(data, data, 0), ncclSuccess);  // no elements: nothing is done
  cudaSetDevice(1);
  cudaStream_t elsewhere = nullptr;
  cudaStreamCreate(&elsewhere);
  const OnDevice<float> other({1});
  refused("stream of device 1",
          ncclAllReduce(data, data, 4, ncclFloat32, ncclSum, rank.communicator, elsewhere));
  refused("device 0", all_reduce(other.data(), other.data(), 1));
  cudaStreamDestroy(elsewhere);
  cudaSetDevice(0);
}

TEST_F(NcclRefuses, UseTooEarlyAndTooLate) {
  NcclRank rank(new_id(), 0, 1);
  const OnDevice<float> value({1});
  EXPECT_EQ(add(rank, value), ncclInvalidArgument);  // not yet joined, as far as it has seen
  ASSERT_EQ(rank.settle(), ncclSuccess);
  EXPECT_EQ(add(rank, value), ncclInProgress);
  EXPECT_EQ(add(rank, value), ncclInvalidArgument);
  ASSERT_EQ(rank.settle(), ncclSuccess);
  const ncclComm_t gone = rank.communicator;
  rank.abort();
  EXPECT_EQ(ncclCommAbort(gone), ncclInvalidArgument);
  ncclResult_t state = ncclSuccess;
  EXPECT_EQ(ncclCommGetAsyncError(gone, &state), ncclInvalidArgument);
  EXPECT_EQ(ncclGroupEnd(), ncclInvalidUsage);
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.magic = 1;
  ncclComm_t made = nullptr;
  EXPECT_EQ(ncclCommInitRankConfig(&made, 1, new_id(), 0, &config), ncclInvalidArgument);
  EXPECT_EQ(ncclCommInitRankConfig(&made, 1, new_id(), 1, nullptr), ncclInvalidArgument);
  EXPECT_EQ(made, nullptr);
}

// One refusal in a group is the group's, and nothing of it is done.
TEST_F(NcclRefuses, AGroupOneOfWhichIsWrong) {
  NcclRank rank(new_id(), 0, 1);
  ASSERT_EQ(rank.settle(), ncclSuccess);
  const OnDevice<float> value({1});
  ncclGroupStart();
  EXPECT_EQ(add(rank, value), ncclSuccess);
  EXPECT_EQ(ncclReduce(value.data(), value.data(), 1, ncclFloat32, ncclSum, 7, rank.communicator,
                       rank.stream),
            ncclInvalidArgument);
  EXPECT_EQ(ncclGroupEnd(), ncclInvalidArgument);
  EXPECT_EQ(rank.state(), ncclSuccess);
  EXPECT_EQ(query(rank.stream), cudaSuccess);
}

TEST_F(NcclRefuses, CollectivesThatDiffer) {
  on_ranks(2, [](const NcclRank& rank) {
    const OnDevice<float> values(std::vector<float>(8, 1));
    const std::size_t count = rank.number == 0 ? 8 : 4;
    ASSERT_EQ(ncclAllReduce(values.data(), values.data(), count, ncclFloat32, ncclSum,
                            rank.communicator, rank.stream),
              ncclInProgress);
    while (rank.state() == ncclInProgress) std::this_thread::yield();
    EXPECT_EQ(cudaStreamSynchronize(rank.stream), cudaSuccess);
    EXPECT_EQ(rank.state(), ncclInvalidUsage);
    EXPECT_NE(std::string(ncclGetLastError(rank.communicator)).find("of 4 elements"),
              std::string::npos);
    EXPECT_TRUE(std::isnan(values.values().front()));
    EXPECT_EQ(add(rank, values), ncclInvalidUsage);
  });
}

// Two streams that no event orders, whichever of them comes first.
TEST_F(NcclRefuses, Races) {
  for (const bool collective_first : {false, true}) {
    for (const bool has_event : {false, true}) {
      NcclRank rank(new_id(), 0, 1);
      ASSERT_EQ(rank.settle(), ncclSuccess);
      cudaStream_t compute = nullptr;
      cudaStreamCreateWithFlags(&compute, cudaStreamNonBlocking);
      cudaEvent_t event = nullptr;
      cudaEventCreate(&event);
      const OnDevice<float> value({1});
      const cudaStream_t first = collective_first ? rank.stream : compute;
      const cudaStream_t second = collective_first ? compute : rank.stream;
      const auto give = [&](cudaStream_t stream) {
        if (stream == compute) {
          cudaMemsetAsync(value.data(), 0, 4, compute);
        } else {
          EXPECT_EQ(add(rank, value), ncclInProgress);
          while (rank.state() == ncclInProgress) std::this_thread::yield();
        }
      };
      give(first);
      if (has_event) {
        cudaEventRecord(event, first);
        cudaStreamWaitEvent(second, event, 0);
      }
      give(second);
      cudaStreamSynchronize(first);
      const cudaError_t end = cudaStreamSynchronize(second);
      EXPECT_EQ(end, has_event ? cudaSuccess : cudaErrorLaunchFailure);
      if (!has_event) {
        const std::string text = cudaGetErrorString(end);
        for (const char* part : {"race: ", "on another stream", "all-reduce", "cudaMemset"})
          EXPECT_NE(text.find(part), std::string::npos) << text;
        cudaDeviceReset();
      }
      cudaEventDestroy(event);
      cudaStreamDestroy(compute);
    }
  }
}

TEST_F(NcclRefuses, TwoRanksOnOneDevice) {
  const ncclUniqueId id = new_id();
  NcclRank rank(id, 0, 2, 2), other(id, 1, 2, 2);
  EXPECT_EQ(rank.settle(), ncclInvalidUsage);
  EXPECT_EQ(other.settle(), ncclInvalidUsage);
  EXPECT_NE(std::string(ncclGetLastError(nullptr)).find("duplicate GPU"), std::string::npos);
  cudaSetDevice(0);
}

TEST_F(NcclRefuses, TwoRanksOfOneNumber) {
  const ncclUniqueId id = new_id();
  NcclRank rank(id, 0, 2, 0), other(id, 0, 2, 1);
  ncclResult_t first = ncclInProgress, second = ncclInProgress;
  while (first == ncclInProgress && second == ncclInProgress) {
    first = rank.state();
    second = other.state();
  }
  EXPECT_EQ(first == ncclInProgress ? second : first, ncclSystemError);
  rank.abort();
  other.abort();
  cudaSetDevice(0);
}

}  // namespace
}  // namespace lathe::test
