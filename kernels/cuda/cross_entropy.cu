// Softmax, cross-entropy and the gradient of the logits. A block takes a row: its threads find
// maximum and sum in one walk (Milakov & Gimelshein 2018), a second walk writes the gradient.
// Padded columns take no part.
#include <cmath>

#include "cuda_backend.h"
#include "device.cuh"
#include "launch.h"

namespace lathe {
namespace {

using namespace cuda;

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;

// The sum of exp(x - max) over some values and their max.
struct ScaledSum {
  float max, sum;
};

__device__ ScaledSum combine(ScaledSum a, ScaledSum b) {
  if (a.max == -INFINITY && b.max == -INFINITY) return {-INFINITY, a.sum + b.sum};
  const float max = fmaxf(a.max, b.max);  // passes NaN over, which the sum keeps
  return {max, a.sum * __expf(a.max - max) + b.sum * __expf(b.max - max)};
}

// Over all threads of the block, in a fixed order, in every thread.
__device__ ScaledSum block_combine(ScaledSum mine) {
  __shared__ ScaledSum of_warps[kWarps];
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    mine = combine(mine, {__shfl_xor_sync(kAllLanes, mine.max, offset),
                          __shfl_xor_sync(kAllLanes, mine.sum, offset)});
  }
  if (threadIdx.x % kWarp == 0) of_warps[threadIdx.x / kWarp] = mine;
  __syncthreads();
  ScaledSum all = of_warps[0];
  for (int i = 1; i < kWarps; ++i) all = combine(all, of_warps[i]);
  return all;
}

template <class E>
struct Rows {
  float* losses;
  E* d_logits;  // null: losses alone; may be the memory of logits
  const E* logits;
  const std::int32_t* targets;
  std::int64_t V, Vp;
  float scale;
};

// d_logits may be the memory of logits, so a thread reads and writes the same columns.
template <class E, int W>
__global__ void __launch_bounds__(kThreads) cross_entropy(Rows<E> op) {
  using P = Pack<E, W>;
  const std::int64_t n = blockIdx.x, packs = op.Vp / W;
  const E* logits = op.logits + n * op.Vp;
  const std::int32_t target = op.targets[n];
  const float target_logit = widen(logits[target]);
  ScaledSum mine{-INFINITY, 0};
  for (std::int64_t i = threadIdx.x; i < packs; i += kThreads) {
    const P pack = reinterpret_cast<const P*>(logits)[i];
    for (int k = 0; k < W; ++k) {
      const float x = widen(pack.values[k]);
      if (i * W + k >= op.V) continue;
      mine = combine(mine, {x, 1});
    }
  }
  const ScaledSum row = block_combine(mine);
  // Every thread has read target_logit before any writes over it: block_combine waits for all.
  if (threadIdx.x == 0) op.losses[n] = logf(row.sum) + (row.max - target_logit);
  if (op.d_logits == nullptr) return;
  const float factor = op.scale / row.sum;
  for (std::int64_t i = threadIdx.x; i < packs; i += kThreads) {
    P pack = reinterpret_cast<const P*>(logits)[i];
    for (int k = 0; k < W; ++k) {
      const std::int64_t v = i * W + k;
      float gradient = __expf(widen(pack.values[k]) - row.max) * factor;
      if (v == target) gradient -= op.scale;
      pack.values[k] = narrow<E>(v < op.V ? gradient : 0.0f);
    }
    reinterpret_cast<P*>(op.d_logits + n * op.Vp)[i] = pack;
  }
}

}  // namespace

void CudaBackend::execute(const CrossEntropy& op) {
  const std::int64_t N = op.logits.size(0), Vp = op.logits.size(1);
  with_compute_type(op.logits.type(), [&]<class E>(std::type_identity<E>) {
    const Rows<E> rows{.losses = op.losses.as<float>(),
                       .d_logits = op.d_logits.empty() ? nullptr : op.d_logits.as<E>(),
                       .logits = op.logits.as<E>(),
                       .targets = op.targets.as<std::int32_t>(),
                       .V = op.vocab,
                       .Vp = Vp,
                       .scale = op.scale};
    is_wide(Vp, {op.logits, op.d_logits})
        ? cross_entropy<E, kWidest<E>><<<grid_of(N), kThreads, 0, stream()>>>(rows)
        : cross_entropy<E, 1><<<grid_of(N), kThreads, 0, stream()>>>(rows);
  });
  check_launch(CrossEntropy::kName);
}

}  // namespace lathe
