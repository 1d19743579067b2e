// What the CUDA runtime gives out, with its destruction.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>

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

inline OwnedEvent make_event() {
  cudaEvent_t event = nullptr;
  check(cudaEventCreate(&event), "cudaEventCreate");
  return OwnedEvent(event);
}

}  // namespace lathe::cuda
