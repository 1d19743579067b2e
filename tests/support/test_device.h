// The device that a test of an operation runs on. A test is written once; tests/CMakeLists.txt
// builds it once for each device, with that device's file of tests/devices/.
#pragma once

#include <memory>

#include "lathe/backend.h"

namespace lathe::test {

// `threads`: of a CPU.
std::unique_ptr<Backend> make_test_backend(int threads = 2);

// Whether the device is run instruction by instruction: then the largest shapes are left out.
bool is_simulated();

// What a command's --device must be to run on it.
const char* device_option();

}  // namespace lathe::test
