#include "support/test_device.h"

namespace lathe::test {

std::unique_ptr<Backend> make_test_backend(int threads) {
  return make_cpu_backend(threads);
}

bool is_simulated() {
  return false;
}

const char* device_option() {
  return "auto";
}

}  // namespace lathe::test
