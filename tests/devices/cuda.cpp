#include "cuda_backend.h"
#include "support/test_device.h"

namespace lathe::test {

std::unique_ptr<Backend> make_test_backend(int /*threads*/) {
  return std::make_unique<CudaBackend>();
}

bool is_simulated() {
  return true;
}

}  // namespace lathe::test
