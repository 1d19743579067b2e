// What the plain attention kernels share: a warp holds weights of 32 rows, a lane for each, and
// adds up the weighted rows with a lane for each channel.
#pragma once

#include "device.cuh"

namespace lathe::cuda {

__device__ inline float warp_max(float x) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, offset));
  }
  return x;
}

// sums[d] = sums[d] * rescale + sum over the rows j < count of weights[j] * rows[j * stride + d].
template <class E>
__device__ void add_rows(float* sums, float rescale, const float* weights, const E* rows,
                         std::int64_t count, std::int64_t stride, std::int64_t D) {
  for (std::int64_t d = threadIdx.x % kWarp; d < D; d += kWarp) {
    float sum = sums[d] * rescale;
    for (std::int64_t j = 0; j < count; ++j) sum += weights[j] * widen(rows[j * stride + d]);
    sums[d] = sum;
  }
}

__device__ inline void clear(float* sums, std::int64_t D) {
  for (std::int64_t d = threadIdx.x % kWarp; d < D; d += kWarp) sums[d] = 0;
}

}  // namespace lathe::cuda
