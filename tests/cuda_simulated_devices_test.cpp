// Several devices and several host threads of the PTX machine (ptx_machine/): what belongs to one
// device is refused on another, as on GPUs, and what a thread is told is its own.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <thread>

#include "lathe/cuda.h"
#include "ptx_machine/runtime_state.h"
#include "support/error_of.h"
#include "support/ptx_kernel.h"
#include "support/test_model.h"

namespace lathe::test {
namespace {

class Devices : public testing::Test {
 protected:
  Devices() { ptx::runtime().visible = {0, 1, 2}; }
  ~Devices() override {
    cudaSetDevice(0);
    cudaGetLastError();
    ptx::runtime().visible = {0};
  }

  static cudaStream_t stream_on(int device) {
    cudaStream_t stream = nullptr;
    cudaSetDevice(device);
    EXPECT_EQ(cudaStreamCreate(&stream), cudaSuccess);
    return stream;
  }
  static float* memory_on(int device) {
    void* memory = nullptr;
    cudaSetDevice(device);
    EXPECT_EQ(cudaMalloc(&memory, 16), cudaSuccess);
    return static_cast<float*>(memory);
  }
  static int current() {
    int device = -1;
    cudaGetDevice(&device);
    return device;
  }
  static std::string text_of(cudaError_t error) { return cudaGetErrorString(error); }
};

TEST_F(Devices, AreOfTheThread) {
  int count = 0;
  EXPECT_EQ(cudaGetDeviceCount(&count), cudaSuccess);
  EXPECT_EQ(count, 3);
  EXPECT_EQ(cudaSetDevice(2), cudaSuccess);
  std::thread([] {
    EXPECT_EQ(current(), 0);
    EXPECT_EQ(cudaSetDevice(1), cudaSuccess);
    EXPECT_EQ(cudaSetDevice(3), cudaErrorInvalidDevice);
    EXPECT_EQ(cudaPeekAtLastError(), cudaErrorInvalidDevice);
  }).join();
  EXPECT_EQ(current(), 2);
  EXPECT_EQ(cudaPeekAtLastError(), cudaSuccess);
  cudaDeviceProp properties = {};
  EXPECT_EQ(cudaGetDeviceProperties(&properties, 3), cudaErrorInvalidDevice);
}

TEST_F(Devices, HaveMemoryOfTheirOwn) {
  std::size_t before = 0, after = 0, total = 0;
  cudaSetDevice(0);
  cudaMemGetInfo(&before, &total);
  float* there = memory_on(1);
  float host = 7;
  EXPECT_EQ(cudaMemcpy(there, &host, 4, cudaMemcpyHostToDevice), cudaSuccess);
  cudaSetDevice(0);
  cudaMemGetInfo(&after, &total);
  EXPECT_EQ(after, before);
  EXPECT_EQ(cudaMemcpy(&host, there, 4, cudaMemcpyDeviceToHost), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpy(there, &host, 4, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
  float* here = memory_on(0);
  EXPECT_EQ(cudaMemcpy(here, there, 4, cudaMemcpyDeviceToDevice), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpy(here, there, 4, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemset(there, 0, 4), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFree(there), cudaSuccess);  // as on a GPU, from anywhere
  EXPECT_EQ(cudaFree(here), cudaSuccess);
}

TEST_F(Devices, HaveStreamsEventsAndGraphsOfTheirOwn) {
  cudaStream_t there = stream_on(1);
  cudaEvent_t there_too = nullptr;
  cudaEventCreate(&there_too);
  EXPECT_EQ(cudaEventRecord(there_too, there), cudaSuccess);
  float* memory = memory_on(1);
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  cudaStreamBeginCapture(there, cudaStreamCaptureModeThreadLocal);
  EXPECT_EQ(cudaMemsetAsync(memory, 0, 16, there), cudaSuccess);
  cudaStreamEndCapture(there, &graph);
  cudaGraphInstantiate(&executable, graph, 0);

  cudaStream_t here = stream_on(0);
  EXPECT_EQ(cudaMemsetAsync(memory, 0, 16, there), cudaErrorInvalidResourceHandle);
  EXPECT_EQ(text_of(cudaGetLastError()), "a stream of device 1, the current one is 0");
  EXPECT_EQ(cudaGraphLaunch(executable, there), cudaErrorInvalidResourceHandle);
  EXPECT_EQ(cudaGraphLaunch(executable, here), cudaErrorInvalidResourceHandle);
  EXPECT_EQ(cudaEventRecord(there_too, here), cudaErrorInvalidResourceHandle);
  EXPECT_EQ(cudaStreamBeginCapture(there, cudaStreamCaptureModeThreadLocal),
            cudaErrorInvalidResourceHandle);
  // These may be asked and awaited from anywhere.
  EXPECT_EQ(cudaStreamWaitEvent(here, there_too, 0), cudaSuccess);
  EXPECT_EQ(cudaStreamQuery(there), cudaSuccess);
  EXPECT_EQ(cudaEventSynchronize(there_too), cudaSuccess);

  EXPECT_EQ(cudaStreamDestroy(there), cudaSuccess);
  EXPECT_EQ(cudaStreamQuery(there), cudaErrorInvalidResourceHandle);
  EXPECT_EQ(cudaStreamDestroy(there), cudaErrorInvalidResourceHandle);
  EXPECT_EQ(cudaEventDestroy(there_too), cudaSuccess);
  EXPECT_EQ(cudaEventQuery(there_too), cudaErrorInvalidResourceHandle);
  cudaStreamDestroy(here);
  cudaGraphExecDestroy(executable);
  cudaGraphDestroy(graph);
  cudaFree(memory);
}

// A kernel on device 0 that writes there: device 0 is lost, and device 1 is not.
TEST_F(Devices, AreNotReachedByKernelsOfOthers) {
  float* there = memory_on(1);
  cudaSetDevice(0);
  const auto backend = make_cuda_backend({});
  const std::string error = error_of([&] {
    backend->run(Fill{Tensor(there, DType::fp32, {4}), 1});
    backend->synchronize();
  });
  EXPECT_NE(error.find("access to memory of device 1 by a kernel on device 0"), std::string::npos)
      << error;
  EXPECT_EQ(cudaMemset(there, 0, 16), cudaErrorLaunchFailure);
  cudaSetDevice(1);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  EXPECT_EQ(cudaMemset(there, 0, 16), cudaSuccess);
  EXPECT_EQ(cudaFree(there), cudaSuccess);
  cudaSetDevice(0);
  EXPECT_EQ(cudaDeviceReset(), cudaSuccess);
}

// A kernel on the backend's stream after a fill on another one: an event, or the host, must be
// between.
TEST_F(Devices, FindRacesOfStreams) {
  float* memory = memory_on(0);
  const auto backend = make_cuda_backend({});
  cudaStream_t stream = nullptr;
  cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  const auto error_after = [&](bool waits) {
    return error_of([&] {
      cudaMemsetAsync(memory, 0, 16, stream);
      if (waits) cudaStreamSynchronize(stream);
      backend->run(Fill{Tensor(memory, DType::fp32, {4}), 1});
      backend->synchronize();
    });
  };
  EXPECT_EQ(error_after(true), "");
  const std::string error = error_after(false);
  EXPECT_NE(error.find("race: write after a write by cudaMemset on another stream"),
            std::string::npos)
      << error;
  cudaDeviceReset();
  cudaStreamDestroy(stream);
  cudaFree(memory);
}

// Registered as nvcc's host code does it.
TEST_F(Devices, HaveVariablesAndLimitsOfTheirOwn) {
  ptx::FatBinary binary({ptx_module("", ".visible .global .align 4 .u32 counter;")});
  const int kernel = 0, variable = 0;
  ptx::runtime().symbols[&kernel] = {&binary, "kernel", {}};
  ptx::runtime().symbols[&variable] = {&binary, "counter", {}};
  constexpr int kMuch = 100 << 10;
  std::uint64_t a = 0, b = 0;
  void* arguments[] = {&a, &b};
  const auto launch = [&] {
    return cudaLaunchKernel(&kernel, dim3(1), dim3(32), arguments, kMuch, nullptr);
  };
  void *on_0 = nullptr, *on_1 = nullptr;
  EXPECT_EQ(cudaFuncSetAttribute(&kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kMuch),
            cudaSuccess);
  EXPECT_EQ(cudaGetSymbolAddress(&on_0, &variable), cudaSuccess);
  EXPECT_EQ(launch(), cudaSuccess);
  cudaSetDevice(1);
  EXPECT_EQ(cudaGetSymbolAddress(&on_1, &variable), cudaSuccess);
  EXPECT_EQ(launch(), cudaErrorInvalidValue);
  EXPECT_NE(on_0, on_1);
  EXPECT_EQ(cudaMemset(on_1, 0, 4), cudaSuccess);
  ptx::runtime().symbols.erase(&kernel);
  ptx::runtime().symbols.erase(&variable);
}

// A capture is of its stream, and what it forbids is forbidden to its thread.
TEST_F(Devices, AreUsedByOthersDuringACapture) {
  cudaStream_t captured = stream_on(0), other = stream_on(0);
  float* memory = memory_on(0);
  float host = 1;
  cudaMemcpy(memory, &host, 4, cudaMemcpyHostToDevice);
  ASSERT_EQ(cudaStreamBeginCapture(captured, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  EXPECT_EQ(cudaMemsetAsync(memory, 0, 4, captured), cudaSuccess);
  EXPECT_EQ(cudaMemsetAsync(memory + 1, 0, 4, other), cudaSuccess);
  std::thread([&] {
    EXPECT_EQ(cudaMemcpy(&host, memory + 1, 4, cudaMemcpyDeviceToHost), cudaSuccess);
    EXPECT_EQ(host, 0);
    EXPECT_EQ(cudaMemcpy(&host, memory, 4, cudaMemcpyDeviceToHost), cudaSuccess);
    EXPECT_EQ(host, 1);
    void* more = nullptr;
    EXPECT_EQ(cudaMalloc(&more, 4), cudaSuccess);
    EXPECT_EQ(cudaFree(more), cudaSuccess);
    EXPECT_EQ(cudaMemsetAsync(memory, 0, 4, other), cudaSuccess);
    EXPECT_EQ(cudaStreamSynchronize(other), cudaSuccess);
    EXPECT_EQ(cudaMemcpy(&host, memory, 4, cudaMemcpyDeviceToHost), cudaSuccess);
    EXPECT_EQ(host, 0);
  }).join();
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaStreamEndCapture(captured, &graph), cudaSuccess);
  cudaGraphDestroy(graph);
  cudaStreamDestroy(captured);
  cudaStreamDestroy(other);
  cudaFree(memory);
}

// All that training leaves of a small model.
std::vector<std::byte> train(std::uint64_t seed) {
  constexpr ModelConfig kConfig = {
      .layers = 1, .heads = 2, .channels = 32, .context = 8, .vocab = 19};
  TestModel model({.config = kConfig,
                   .options = {.micro_batch = 2,
                               .seq_len = 8,
                               .precision = DType::bf16,
                               .recompute = Recompute::none,
                               .training = true}},
                  make_cuda_backend({.gemm_tuning = false}));
  model.initialize(seed, 4);
  const RandomTokens tokens(2, 8, kConfig.vocab, seed);
  for (std::int64_t step = 1; step <= 2; ++step) {
    model.forward_backward(tokens.batch());
    model.update(step, 1e-3);
  }
  return model.state_bytes();
}

TEST_F(Devices, GiveManyThreadsWhatTheyGiveOne) {
  constexpr std::size_t kThreads = 4;
  std::vector<std::vector<std::byte>> alone, together(kThreads);
  for (std::size_t i = 0; i < kThreads; ++i) alone.push_back(train(i));
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < kThreads; ++i)
    threads.emplace_back([&, i] { together[i] = train(i); });
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(together == alone);
}

TEST(DevicesOfTheEnvironment, AreAsManyAsItSaysAndOfThoseThatItNames) {
  using ptx::read_devices;
  EXPECT_EQ(read_devices(nullptr, nullptr), (std::vector{0}));
  EXPECT_EQ(read_devices("3", nullptr), (std::vector{0, 1, 2}));
  EXPECT_EQ(read_devices("0", nullptr), (std::vector<int>{}));
  EXPECT_EQ(read_devices("4", "2,0"), (std::vector{2, 0}));
  EXPECT_EQ(read_devices("4", "2,4,0"), (std::vector{2}));  // up to the first that there is not
  EXPECT_EQ(read_devices("4", ""), (std::vector<int>{}));
}

}  // namespace
}  // namespace lathe::test
