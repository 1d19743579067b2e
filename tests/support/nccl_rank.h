// Ranks of the stand-in for NCCL (ptx_machine/), as a program that does not block has them.
#pragma once

#include <gtest/gtest.h>
#include <nccl.h>

#include <thread>
#include <vector>

#include "ptx_machine/runtime_state.h"

namespace lathe::test {

// Device memory with values in it.
template <class T>
class OnDevice {
 public:
  explicit OnDevice(const std::vector<T>& values) : count_(values.size()) {
    EXPECT_EQ(cudaMalloc(&memory_, count_ * sizeof(T)), cudaSuccess);
    cudaMemcpy(memory_, values.data(), count_ * sizeof(T), cudaMemcpyHostToDevice);
  }
  ~OnDevice() { cudaFree(memory_); }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

  T* data() const { return static_cast<T*>(memory_); }
  std::vector<T> values() const {
    std::vector<T> out(count_);
    cudaMemcpy(out.data(), memory_, count_ * sizeof(T), cudaMemcpyDeviceToHost);
    return out;
  }

 private:
  std::size_t count_;
  void* memory_ = nullptr;
};

inline ncclUniqueId new_id() {
  ncclUniqueId id;
  EXPECT_EQ(ncclGetUniqueId(&id), ncclSuccess);
  return id;
}

// One rank, as a program that does not block has it: on the device of its number, with a stream.
struct NcclRank {
  int number, ranks;
  ncclComm_t communicator = nullptr;
  cudaStream_t stream = nullptr;

  NcclRank(const ncclUniqueId& id, int rank, int of, int device) : number(rank), ranks(of) {
    EXPECT_EQ(cudaSetDevice(device), cudaSuccess);
    EXPECT_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    EXPECT_EQ(ncclCommInitRankConfig(&communicator, ranks, id, number, &config), ncclInProgress);
  }
  NcclRank(const ncclUniqueId& id, int rank, int of) : NcclRank(id, rank, of, rank) {}
  ~NcclRank() {
    if (communicator != nullptr) {
      EXPECT_EQ(ncclCommDestroy(communicator), ncclSuccess);
    }
    cudaStreamDestroy(stream);
  }
  NcclRank(const NcclRank&) = delete;
  NcclRank& operator=(const NcclRank&) = delete;

  ncclResult_t state() const {
    ncclResult_t state = ncclInternalError;
    EXPECT_EQ(ncclCommGetAsyncError(communicator, &state), ncclSuccess);
    return state;
  }
  // That it has come to, after what was given.
  ncclResult_t settle() const {
    while (state() == ncclInProgress) std::this_thread::yield();
    return state();
  }
  void finish(ncclResult_t given) const {
    EXPECT_EQ(given, ncclInProgress) << ncclGetLastError(communicator);
    EXPECT_EQ(settle(), ncclSuccess) << ncclGetLastError(communicator);
    EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  }
  void abort() {
    EXPECT_EQ(ncclCommAbort(communicator), ncclSuccess);
    communicator = nullptr;
  }
};

// The body on every rank, each in a thread.
template <class Body>
void on_ranks(int ranks, const Body& body) {
  const ncclUniqueId id = new_id();
  std::vector<std::thread> threads;
  for (int i = 0; i < ranks; ++i) {
    threads.emplace_back([&, i] {
      NcclRank rank(id, i, ranks);
      ASSERT_EQ(rank.settle(), ncclSuccess) << ncclGetLastError(nullptr);
      body(rank);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

class SeveralDevices : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    ptx::runtime().visible = {0, 1, 2, 3};
    ptx::machine().options.order = ptx::Order::forward;
  }
  static void TearDownTestSuite() { ptx::runtime().visible = {0}; }
};

}  // namespace lathe::test
