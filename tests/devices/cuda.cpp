#include "lathe/cuda.h"
#include "support/test_device.h"

namespace lathe::test {

std::unique_ptr<Backend> make_test_backend(int /*threads*/) {
  return make_cuda_backend({});
}

bool is_simulated() {
  return true;
}

const char* device_option() {
  return "auto";
}

}  // namespace lathe::test
