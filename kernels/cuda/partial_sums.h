// Sums over the rows of a batch, to which many blocks add: each leaves sums of its own, and these
// are added here in an order that their number alone decides.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace lathe::cuda {

struct PartialSums {
  const float* values;  // (blocks, number of outs, C)
  std::int64_t blocks, C;
  float* outs[2];  // each (C); the second may be null
  bool accumulate;
};

void add_partial_sums(const PartialSums& sums, cudaStream_t stream);

}  // namespace lathe::cuda
