// What kernels share: element types, vectors of them, sums over warps and blocks.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>
#include <cstring>
#include <type_traits>

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

// Elements that one access moves, or more than one where they take more than 16 bytes.
template <class E, int Width>
struct alignas(sizeof(E) * Width < 16 ? sizeof(E) * Width : 16) Pack {
  E values[Width];
};

// to = pack, where `to` is aligned like a pack: nvcc 13 splits some assignments into elements.
template <class E, int W>
__device__ void write(E* to, const Pack<E, W>& pack) {
  using Piece = std::conditional_t<sizeof(pack) % 16 == 0, uint4, uint2>;
  static_assert(sizeof(pack) % sizeof(Piece) == 0);
  constexpr int kPieces = sizeof(pack) / sizeof(Piece);
  Piece pieces[kPieces];
  memcpy(pieces, &pack, sizeof(pack));
  for (int i = 0; i < kPieces; ++i) __stwb(reinterpret_cast<Piece*>(to) + i, pieces[i]);
}

// Elements of type E in the widest access, 16 bytes.
template <class E>
inline constexpr int kWidest = 16 / sizeof(E);

// Memory that is walked in packs, wherever it begins and ends. Packs begin at multiples of W.
template <class E>
struct Flat {
  using Value = std::remove_const_t<E>;

  E* values;
  std::int64_t count;
  bool aligned;  // begins at a multiple of 16 bytes

  // Elements [i, i + W); what lies beyond the end reads as zeros and is not written.
  template <int W>
  __device__ Pack<Value, W> load(std::int64_t i) const {
    if (aligned && i + W <= count) return whole<W>(i);
    Pack<Value, W> pack = {};
    for (int k = 0; k < W; ++k) {
      if (i + k < count) pack.values[k] = values[i + k];
    }
    return pack;
  }
  template <int W>
  __device__ void store(std::int64_t i, const Pack<E, W>& pack) const {
    if (aligned && i + W <= count) {
      write(values + i, pack);
      return;
    }
    for (int k = 0; k < W; ++k) {
      if (i + k < count) values[i + k] = pack.values[k];
    }
  }
  // Of aligned memory, within its end.
  template <int W>
  __device__ Pack<Value, W> whole(std::int64_t i) const {
    return *reinterpret_cast<const Pack<Value, W>*>(values + i);
  }
};

__device__ inline float warp_sum(float x) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    x += __shfl_xor_sync(kAllLanes, x, offset);
  }
  return x;
}

// 2^x by the unit for it, within 2 ulp; results below 2^-126 become 0.
__device__ inline float fast_exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
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
