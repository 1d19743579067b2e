// What the CUDA runtime gives out, with its destruction.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <memory>

#include "lathe/backend.h"
#include "launch.h"

namespace lathe::cuda {

template <class T, cudaError_t (*Destroy)(T*)>
struct Destroyer {
  void operator()(T* object) const { Destroy(object); }
};

using OwnedStream = std::unique_ptr<CUstream_st, Destroyer<CUstream_st, cudaStreamDestroy>>;
using OwnedEvent = std::unique_ptr<CUevent_st, Destroyer<CUevent_st, cudaEventDestroy>>;
using OwnedGraph = std::unique_ptr<CUgraph_st, Destroyer<CUgraph_st, cudaGraphDestroy>>;
using OwnedGraphExec =
    std::unique_ptr<CUgraphExec_st, Destroyer<CUgraphExec_st, cudaGraphExecDestroy>>;

inline OwnedStream make_stream() {
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
  return OwnedStream(stream);
}

// With cudaEventDisableTiming it is cheaper.
inline OwnedEvent make_event(unsigned flags = cudaEventDefault) {
  cudaEvent_t event = nullptr;
  check(cudaEventCreateWithFlags(&event, flags), "cudaEventCreate");
  return OwnedEvent(event);
}

// Not yet initialised. Errors: out_of_memory.
Buffer take_memory(std::int64_t bytes);

// Of the host, for copies that do not wait.
struct FreePinned {
  void operator()(std::byte* memory) const { cudaFreeHost(memory); }
};
using PinnedMemory = std::unique_ptr<std::byte[], FreePinned>;

inline PinnedMemory make_pinned_memory(std::size_t bytes) {
  void* memory = nullptr;
  check(cudaMallocHost(&memory, bytes), "cudaMallocHost");
  return PinnedMemory(static_cast<std::byte*>(memory));
}

}  // namespace lathe::cuda
