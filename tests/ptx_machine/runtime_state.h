// What the stand-in for libcudart remembers, apart from the machine itself.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "fat_binary.h"

namespace lathe::ptx {

struct RegisteredSymbol {  // a kernel or a variable, by its host address
  FatBinary* binary;
  std::string name;
  std::size_t dynamic_shared_limit = 48 * 1024;  // of a kernel, until cudaFuncSetAttribute
};

struct LaunchConfiguration {
  dim3 grid, block;
  std::size_t shared;
  cudaStream_t stream;
};

// Work on a stream.
using Work = std::function<cudaError_t()>;

struct RuntimeState {
  RuntimeState();  // reads LATHE_PTX_ORDER, LATHE_PTX_SEED and LATHE_PTX_RACES

  std::vector<std::unique_ptr<FatBinary>> binaries;
  std::map<const void*, RegisteredSymbol> symbols;
  std::vector<LaunchConfiguration> pushed;
  cudaError_t last_error = cudaSuccess;
  cudaError_t sticky_error = cudaSuccess;       // a kernel failed: the context is lost
  std::map<cudaError_t, std::string> details;   // what the machine said
  std::unique_ptr<std::vector<Work>> captured;  // while a stream is captured

  // Remembers an error as the last one; success, or a lost context, is passed on.
  cudaError_t finish(cudaError_t error);
  cudaError_t fail(cudaError_t error, const std::string& detail);

  // Does the work now or, during a capture, when the graph is launched.
  cudaError_t submit(Work work);

  // An error during a capture, which may not wait for the device or take memory.
  cudaError_t refuse_in_capture(const char* call);
};

RuntimeState& runtime();

}  // namespace lathe::ptx
