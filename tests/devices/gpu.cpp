#include "lathe/cuda.h"
#include "support/test_device.h"

namespace lathe::test {

// Untuned: tests compare bits between backends, and timing may choose other plans for each.
std::unique_ptr<Backend> make_test_backend(int /*threads*/) {
  return make_cuda_backend({.gemm_tuning = false});
}

bool is_simulated() {
  return false;
}

// Not auto: without the GPU tests must fail, and not pass on the CPU.
const char* device_option() {
  return "cuda";
}

}  // namespace lathe::test
