// Softmax, cross-entropy and the gradient of the logits. A block takes a row: its threads find
// maximum and sum in one walk (Milakov & Gimelshein 2018), a second walk writes the gradient. A row
// that fits stays in shared memory in between, so that every logit is read and written once: the
// padded GPT-2 vocabulary takes 98 KiB in bf16. Padded columns take no part.
#include <cmath>

#include "cuda_backend.h"
#include "device.cuh"
#include "launch.h"

namespace lathe {
namespace {

using namespace cuda;

constexpr int kThreads = 512;
constexpr int kWarps = kThreads / kWarp;
constexpr int kPacksInFlight = 4;  // of a thread

__device__ float power_of_e(float x) {
  constexpr float kLog2E = 1.44269504f;
  return fast_exp2(x * kLog2E);
}

// The sum of exp(x - max) over some values and their max: -infinity for none.
struct ScaledSum {
  float max, sum;

  // A maximum of -infinity would make NaN of the values that have it.
  __device__ static float base(float max) { return max == -INFINITY ? 0.0f : max; }

  // The same with a larger max.
  __device__ float sum_below(float larger) const { return sum * power_of_e(max - base(larger)); }
  // Adds the first `count` elements. NaN does not reach the maximum, but the sum.
  template <class E, int W>
  __device__ void add(const Pack<E, W>& pack, std::int64_t count) {
    float values[W], larger = max;
    for (int k = 0; k < W; ++k) {
      values[k] = k < count ? widen(pack.values[k]) : -INFINITY;
      larger = fmaxf(larger, values[k]);
    }
    float added = 0;
    for (const float value : values) added += power_of_e(value - base(larger));
    sum = sum_below(larger) + added;
    max = larger;
  }
};

// Over all threads of the block, in a fixed order, in every thread.
__device__ ScaledSum block_combine(ScaledSum mine) {
  __shared__ ScaledSum of_warps[kWarps];
  float max = mine.max;
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    max = fmaxf(max, __shfl_xor_sync(kAllLanes, max, offset));
  }
  const float sum = warp_sum(mine.sum_below(max));
  if (threadIdx.x % kWarp == 0) of_warps[threadIdx.x / kWarp] = {max, sum};
  __syncthreads();
  ScaledSum all{-INFINITY, 0};
  for (const ScaledSum& warp : of_warps) all.max = fmaxf(all.max, warp.max);
  for (const ScaledSum& warp : of_warps) all.sum += warp.sum_below(all.max);
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

// The walk over the vocabulary's `packs` of a row; `kept`, if not null, becomes a copy of them.
template <class P, int W>
__device__ ScaledSum add_up(const P* logits, std::int64_t V, P* kept) {
  const std::int64_t packs = (V + W - 1) / W;
  ScaledSum mine{-INFINITY, 0};
  for (std::int64_t first = threadIdx.x; first < packs; first += kPacksInFlight * kThreads) {
    P batch[kPacksInFlight];
#pragma unroll
    for (int b = 0; b < kPacksInFlight; ++b) {
      const std::int64_t i = first + b * kThreads;
      if (i < packs) batch[b] = logits[i];
    }
#pragma unroll
    for (int b = 0; b < kPacksInFlight; ++b) {
      const std::int64_t i = first + b * kThreads;
      if (i >= packs) break;
      if (kept != nullptr) kept[i] = batch[b];
      mine.add(batch[b], V - i * W);
    }
  }
  return mine;
}

// d_logits may be the memory of logits, so a thread reads and writes the same columns.
template <class E, int W, bool Kept>
__global__ void __launch_bounds__(kThreads) cross_entropy(Rows<E> op) {
  using P = Pack<E, W>;
  extern __shared__ uint4 memory[];
  P* const kept = Kept ? reinterpret_cast<P*>(memory) : nullptr;
  const std::int64_t n = blockIdx.x, packs = op.Vp / W;
  const auto* logits = reinterpret_cast<const P*>(op.logits + n * op.Vp);
  const std::int32_t target = op.targets[n];
  const float target_logit = widen(op.logits[n * op.Vp + target]);
  const ScaledSum row = block_combine(add_up<P, W>(logits, op.V, kept));
  // Every thread has read target_logit before any writes over it: block_combine waits for all.
  if (threadIdx.x == 0) op.losses[n] = logf(row.sum) + (row.max - target_logit);
  if (op.d_logits == nullptr) return;
  const float factor = op.scale / row.sum;
  auto* d_logits = reinterpret_cast<P*>(op.d_logits + n * op.Vp);
  for (std::int64_t i = threadIdx.x; i < packs; i += kThreads) {
    P pack = {};
    if (i * W < op.V) pack = Kept ? kept[i] : logits[i];
    for (int k = 0; k < W; ++k) {
      const std::int64_t v = i * W + k;
      float gradient = power_of_e(widen(pack.values[k]) - row.max) * factor;
      if (v == target) gradient -= op.scale;
      pack.values[k] = narrow<E>(v < op.V ? gradient : 0.0f);
    }
    d_logits[i] = pack;
  }
}

template <class E>
void start(const Rows<E>& rows, std::int64_t N, bool wide, cudaStream_t stream) {
  const auto start = [&](auto kernel, std::int64_t shared_bytes) {
    const auto bytes = static_cast<std::size_t>(shared_bytes);
    allow_shared_memory(kernel, bytes);
    kernel<<<grid_of(N), kThreads, bytes, stream>>>(rows);
  };
  constexpr std::int64_t kOwn = kWarps * sizeof(ScaledSum);
  const std::int64_t row_bytes = rows.Vp * static_cast<std::int64_t>(sizeof(E));
  if (!wide) {
    start(cross_entropy<E, 1, false>, 0);
  } else if (row_bytes + kOwn > most_shared_memory()) {
    start(cross_entropy<E, kWidest<E>, false>, 0);
  } else {
    start(cross_entropy<E, kWidest<E>, true>, row_bytes);
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
    start(rows, N, is_wide(Vp, {op.logits, op.d_logits}), stream());
  });
  check_launch(CrossEntropy::kName);
}

}  // namespace lathe
