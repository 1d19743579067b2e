// How far a kernel may be from float64 loops over the same stored inputs: the error of its fp32
// arithmetic, which each test states, and that of rounding its result to the compute type once.
#pragma once

#include <cstddef>

#include "lathe/tensor.h"

namespace lathe::test {

// Of one element: half the spacing of 8-bit significands, relative to the smallest of a binade.
// fp32's own rounding is part of its arithmetic.
inline double rounding_of_each(DType type) {
  return type == DType::bf16 ? 0x1p-8 : 0;
}

// Of a tensor of `count` elements, in the norm: never more than of each. Many errors are spread
// evenly over +-2^-8 of a binade's lower end and values over the binade: 2^-8 / sqrt(3) against a
// root mean square of 1.5, which is below 2^-9.
inline double rounding_in_norm(DType type, std::size_t count) {
  if (type != DType::bf16) return 0;
  return count < 200 ? 0x1p-8 : 0x1p-9;
}

}  // namespace lathe::test
