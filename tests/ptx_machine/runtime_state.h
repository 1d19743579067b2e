// What the stand-in for libcudart remembers, apart from the machine itself.
#pragma once

#include <cuda_runtime_api.h>

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

struct RuntimeState {
  RuntimeState();  // reads LATHE_PTX_ORDER, LATHE_PTX_SEED and LATHE_PTX_RACES

  std::vector<std::unique_ptr<FatBinary>> binaries;
  std::map<const void*, RegisteredSymbol> symbols;
  std::vector<LaunchConfiguration> pushed;
  cudaError_t last_error = cudaSuccess;
  cudaError_t sticky_error = cudaSuccess;      // a kernel failed: the context is lost
  std::map<cudaError_t, std::string> details;  // what the machine said

  // Remembers an error as the last one; success, or a lost context, is passed on.
  cudaError_t finish(cudaError_t error);
  cudaError_t fail(cudaError_t error, const std::string& detail);
};

RuntimeState& runtime();

}  // namespace lathe::ptx
