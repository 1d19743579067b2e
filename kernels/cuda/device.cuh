// What kernels share: element types, vectors of them, sums over warps and blocks.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "lathe/bf16.h"

namespace lathe::cuda {

inline constexpr int kWarp = 32;
inline constexpr unsigned kAllLanes = 0xffffffffu;

__device__ inline float widen(float x) {
  return x;
}
__device__ inline float widen(Bf16 x) {
  return __uint_as_float(std::uint32_t{x.bits} << 16);
}

// Rounds to E, to nearest even.
template <class E>
__device__ E narrow(float x);
template <>
__device__ inline float narrow<float>(float x) {
  return x;
}
template <>
__device__ inline Bf16 narrow<Bf16>(float x) {
  return Bf16{__bfloat16_as_ushort(__float2bfloat16_rn(x))};
}

// Elements that one access moves.
template <class E, int Width>
struct alignas(sizeof(E) * Width) Pack {
  E values[Width];
};

// Elements of type E in the widest access, 16 bytes.
template <class E>
inline constexpr int kWidest = 16 / sizeof(E);

__device__ inline float warp_sum(float x) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    x += __shfl_xor_sync(kAllLanes, x, offset);
  }
  return x;
}

// The sum over all threads of the block, in every thread and in a fixed order. `Threads` is the
// block's size, a multiple of 32. All threads must call; memory is theirs again when it returns.
template <int Threads>
__device__ float block_sum(float x) {
  constexpr int kWarps = Threads / kWarp;
  __shared__ float sums[kWarps];
  const float sum = warp_sum(x);
  if (threadIdx.x % kWarp == 0) sums[threadIdx.x / kWarp] = sum;
  __syncthreads();
  float total = 0;
  for (int i = 0; i < kWarps; ++i) total += sums[i];
  __syncthreads();
  return total;
}

}  // namespace lathe::cuda
