// Takes the place of kernels/cuda in a build without nvcc.
#include "lathe/cuda.h"
#include "lathe/error.h"

namespace lathe {

bool built_with_cuda() {
  return false;
}

std::string why_no_gpu() {
  return "this build has no CUDA backend";
}

int gpu_count() {
  return 0;
}

void use_gpu(int /*index*/) {}

std::unique_ptr<Backend> make_cuda_backend(const CudaOptions& /*options*/) {
  throw Error(ExitCode::usage, "--device cuda: " + why_no_gpu() + "; must be auto or cpu");
}

}  // namespace lathe
