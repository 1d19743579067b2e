// Kernels are templates over the element type E of their compute operands: float or Bf16.
#pragma once

#include <type_traits>

#include "lathe/tensor.h"

namespace lathe {

// Calls function(std::type_identity<E>{}) with the element type behind `type`.
template <class Function>
void with_compute_type(DType type, const Function& function) {
  if (type == DType::bf16) {
    function(std::type_identity<Bf16>{});
  } else {
    function(std::type_identity<float>{});
  }
}

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

}  // namespace lathe
