// The stand-in for NCCL (ptx_machine/): what its collectives give, that work behind them waits,
// that a rank which does not come can be given up, and that it refuses what NCCL refuses or hangs
// at.
#include <gtest/gtest.h>
#include <nccl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <numeric>
#include <string>
#include <thread>

#include "lathe/bf16.h"
#include "ptx_machine/runtime_state.h"

namespace lathe::test {
namespace {

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

ncclUniqueId new_id() {
  ncclUniqueId id;
  EXPECT_EQ(ncclGetUniqueId(&id), ncclSuccess);
  return id;
}

// One rank, as a program that does not block has it: on the device of its number, with a stream.
struct Rank {
  int number, ranks;
  ncclComm_t communicator = nullptr;
  cudaStream_t stream = nullptr;

  Rank(const ncclUniqueId& id, int rank, int of, int device) : number(rank), ranks(of) {
    EXPECT_EQ(cudaSetDevice(device), cudaSuccess);
    EXPECT_EQ(cudaStreamCreate(&stream), cudaSuccess);
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    EXPECT_EQ(ncclCommInitRankConfig(&communicator, ranks, id, number, &config), ncclInProgress);
  }
  Rank(const ncclUniqueId& id, int rank, int of) : Rank(id, rank, of, rank) {}
  ~Rank() {
    if (communicator != nullptr) {
      EXPECT_EQ(ncclCommDestroy(communicator), ncclSuccess);
    }
    cudaStreamDestroy(stream);
  }
  Rank(const Rank&) = delete;
  Rank& operator=(const Rank&) = delete;

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

class Nccl : public testing::Test {
 protected:
  static void SetUpTestSuite() { ptx::runtime().visible = {0, 1, 2, 3}; }

  // The body on every rank, each in a thread.
  template <class Body>
  static void on_ranks(int ranks, const Body& body) {
    const ncclUniqueId id = new_id();
    std::vector<std::thread> threads;
    for (int i = 0; i < ranks; ++i) {
      threads.emplace_back([&, i] {
        Rank rank(id, i, ranks);
        ASSERT_EQ(rank.settle(), ncclSuccess) << ncclGetLastError(nullptr);
        body(rank);
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
};

// Such that the order of a sum shows.
std::vector<float> floats_of(int rank, std::size_t count) {
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i)
    values[i] = std::sin(static_cast<float>(i + 1) * (1.3f + static_cast<float>(rank)));
  return values;
}

std::vector<float> sum_of_ranks(int ranks, std::size_t count) {
  std::vector<float> sums = floats_of(0, count);
  for (int rank = 1; rank < ranks; ++rank) {
    const std::vector<float> more = floats_of(rank, count);
    for (std::size_t i = 0; i < count; ++i) sums[i] += more[i];
  }
  return sums;
}

std::vector<float> part(const std::vector<float>& values, int number, std::size_t count) {
  const auto begin =
      values.begin() + static_cast<std::ptrdiff_t>(number) * static_cast<std::ptrdiff_t>(count);
  return {begin, begin + static_cast<std::ptrdiff_t>(count)};
}

constexpr std::size_t kCount = 1001, kLong = 100'000;  // the latter takes several slots

TEST_F(Nccl, ReducesInTheOrderOfRanks) {
  for (const int ranks : {1, 2, 4}) {
    for (const std::size_t count : {kCount, kLong}) {
      on_ranks(ranks, [&](const Rank& rank) {
        const OnDevice<float> in(floats_of(rank.number, count));
        const OnDevice<float> out(std::vector<float>(count, -1));
        rank.finish(ncclAllReduce(in.data(), out.data(), count, ncclFloat32, ncclSum,
                                  rank.communicator, rank.stream));
        EXPECT_EQ(out.values(), sum_of_ranks(ranks, count));
        const OnDevice<float> last(std::vector<float>(count, -1));
        rank.finish(ncclReduce(in.data(), last.data(), count, ncclFloat32, ncclSum, ranks - 1,
                               rank.communicator, rank.stream));
        EXPECT_EQ(last.values(), rank.number == ranks - 1 ? sum_of_ranks(ranks, count)
                                                          : std::vector<float>(count, -1));
      });
    }
  }
}

TEST_F(Nccl, ScattersAndGathersInPlaceAndNot) {
  for (const int ranks : {1, 3, 4}) {
    for (const std::size_t count : {kCount, kLong}) {
      on_ranks(ranks, [&](const Rank& rank) {
        const std::size_t whole = count * static_cast<std::size_t>(ranks);
        const std::vector<float> sums = sum_of_ranks(ranks, whole);
        const OnDevice<float> in(floats_of(rank.number, whole));
        const OnDevice<float> out(std::vector<float>(count, -1));
        rank.finish(ncclReduceScatter(in.data(), out.data(), count, ncclFloat32, ncclSum,
                                      rank.communicator, rank.stream));
        EXPECT_EQ(out.values(), part(sums, rank.number, count));
        float* own = in.data() + count * static_cast<std::size_t>(rank.number);
        rank.finish(ncclReduceScatter(in.data(), own, count, ncclFloat32, ncclSum,
                                      rank.communicator, rank.stream));
        EXPECT_EQ(part(in.values(), rank.number, count), part(sums, rank.number, count));
        rank.finish(
            ncclAllGather(own, in.data(), count, ncclFloat32, rank.communicator, rank.stream));
        EXPECT_EQ(in.values(), sums);
        const OnDevice<float> gathered(std::vector<float>(whole, -1));
        rank.finish(ncclAllGather(out.data(), gathered.data(), count, ncclFloat32,
                                  rank.communicator, rank.stream));
        EXPECT_EQ(gathered.values(), sums);
      });
    }
  }
}

TEST_F(Nccl, BroadcastsAndTakesOtherTypes) {
  on_ranks(3, [](const Rank& rank) {
    const OnDevice<std::uint8_t> text({static_cast<std::uint8_t>(rank.number + 7), 9});
    rank.finish(
        ncclBroadcast(text.data(), text.data(), 2, ncclUint8, 2, rank.communicator, rank.stream));
    EXPECT_EQ(text.values(), (std::vector<std::uint8_t>{9, 9}));
    const OnDevice<double> number({rank.number == 1 ? 1e300 : -rank.number});
    rank.finish(ncclAllReduce(number.data(), number.data(), 1, ncclFloat64, ncclMax,
                              rank.communicator, rank.stream));
    EXPECT_EQ(number.values().front(), 1e300);
    // 256 + 1 + 1 in bf16: each 1 is lost, as it would not be in a sum of fp32.
    const OnDevice<Bf16> half({to_bf16(rank.number == 0 ? 256.0f : 1.0f)});
    rank.finish(ncclAllReduce(half.data(), half.data(), 1, ncclBfloat16, ncclSum, rank.communicator,
                              rank.stream));
    EXPECT_EQ(to_float(half.values().front()), 256.0f);
  });
}

}  // namespace
}  // namespace lathe::test
