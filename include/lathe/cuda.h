// The CUDA backend as the rest of the program sees it. kernels/no_cuda/ takes its
// place in a build without nvcc.
#pragma once

#include <memory>
#include <string>

#include "lathe/backend.h"

namespace lathe {

struct CudaOptions {
  bool tf32 = false;        // fp32 products on tensor cores, with 10-bit significands
  bool gemm_tuning = true;  // time the candidates for each product; false: take the first
  bool graph = true;        // record repeated work once and replay it
};

bool built_with_cuda();

int gpu_count();  // of those that this process may see, whatever they can; 0 where it cannot be
                  // told

// From here on this thread's GPU is that one of gpu_count(); before, it is the first. Errors:
// internal.
void use_gpu(int index);

// Why this thread's GPU is none to train on, in a few words; empty: it is one.
std::string why_no_gpu();

// Computes on this thread's GPU, and is used by this thread alone. Errors: usage, when there is no
// GPU or none that this build has code for.
std::unique_ptr<Backend> make_cuda_backend(const CudaOptions& options);

}  // namespace lathe
