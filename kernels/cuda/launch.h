// Host code around kernels: errors, grids, and the choice of types and vector widths.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <initializer_list>
#include <type_traits>

#include "lathe/tensor.h"

namespace lathe::cuda {

// Throws Error(internal) naming `what` if a call or the launch before failed.
void check(cudaError_t status, const char* what);
void check_launch(const char* kernel);

int current_gpu();  // this thread's

// Whether this build has code, or PTX to make it from, for this thread's GPU.
bool has_image();

// Lets a kernel have more shared memory than the 48 KiB that every kernel may have.
template <class... Parameters>
void allow_shared_memory(void (*kernel)(Parameters...), std::size_t bytes) {
  constexpr std::size_t kAlways = 48 * 1024;
  if (bytes <= kAlways) return;
  check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                             cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)),
        "cudaFuncSetAttribute");
}

// The most shared memory that a block may be allowed.
inline std::int64_t most_shared_memory() {
  int bytes = 0;
  check(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, current_gpu()),
        "cudaDeviceGetAttribute");
  return bytes;
}

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

constexpr unsigned grid_of(std::int64_t blocks) {
  return static_cast<unsigned>(blocks);
}

// Calls function(std::type_identity<E>{}) with the element type behind `type`: float or Bf16.
template <class Function>
void with_compute_type(DType type, const Function& function) {
  if (type == DType::bf16) {
    function(std::type_identity<Bf16>{});
  } else {
    function(std::type_identity<float>{});
  }
}

// Whether every operand that is there begins at a multiple of 16 bytes.
inline bool is_aligned(std::initializer_list<Tensor> operands) {
  for (const Tensor& operand : operands) {
    if (reinterpret_cast<std::uintptr_t>(operand.data()) % 16 != 0) return false;
  }
  return true;
}

// Whether 16-byte accesses may be used on rows of `row_elements`: they and every operand that is
// there must begin at a multiple of 16 bytes.
inline bool is_wide(std::int64_t row_elements, std::initializer_list<Tensor> operands) {
  for (const Tensor& operand : operands) {
    const std::int64_t row_bytes = row_elements * size_of(operand.type());
    if (!operand.empty() && row_bytes % 16 != 0) return false;
  }
  return is_aligned(operands);
}

}  // namespace lathe::cuda
