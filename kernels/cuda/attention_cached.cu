// Attention of new positions to a cache of earlier ones. A block takes one query of one head; its
// warps share out the keys, 32 at a time, each with an online softmax of its own (Milakov &
// Gimelshein 2018), which are merged in order at the end. A block writes the key and value of its
// own position to the cache, but reads those of new positions from qkv: no block reads what another
// writes.
#include <cmath>

#include "attention_rows.cuh"
#include "cuda_backend.h"
#include "launch.h"

namespace lathe {
namespace {

using namespace cuda;

constexpr int kWarps = 8;  // of a block
constexpr int kThreads = kWarps * kWarp;

template <class E>
struct Operands {
  E* out;            // (B, T, C)
  E *keys, *values;  // (B, H, S, D)
  const E* qkv;      // (B, T, 3C)
  std::int64_t T, H, S, D, begin;
  bool wide;  // heads' rows are whole 16 bytes, at multiples of 16 bytes

  __device__ std::int64_t C() const { return H * D; }
};

// The rows that a query sees in one place: key and value j start at j * stride.
template <class E>
struct Rows {
  const E *keys, *values;
  std::int64_t count, stride;
};

// A warp's part of the softmax: sums[d] is the sum of exp(score - max) * value[d].
struct WarpSoftmax {
  float max, sum;
  float* sums;     // (D)
  float* weights;  // of 32 rows, for all lanes to see
};

template <class E>
__device__ float dot(const float* query, const E* key, std::int64_t D, bool wide) {
  float sum = 0;
  if (!wide) {
    for (std::int64_t d = 0; d < D; ++d) sum += query[d] * widen(key[d]);
    return sum;
  }
  constexpr int kWidth = kWidest<E>;
  for (std::int64_t d = 0; d < D; d += kWidth) {
    const auto pack = *reinterpret_cast<const Pack<E, kWidth>*>(key + d);
    for (int k = 0; k < kWidth; ++k) sum += query[d + k] * widen(pack.values[k]);
  }
  return sum;
}

// Lets a warp see its share of the rows. `query` is scaled.
template <class E>
__device__ void attend(WarpSoftmax& softmax, const float* query, const Rows<E>& rows,
                       const Operands<E>& op) {
  const auto lane = std::int64_t{threadIdx.x % kWarp};
  for (std::int64_t begin = threadIdx.x / kWarp * kWarp; begin < rows.count; begin += kThreads) {
    const std::int64_t count = min(std::int64_t{kWarp}, rows.count - begin);
    const E* keys = rows.keys + begin * rows.stride;
    const float score =
        lane < count ? dot(query, keys + lane * rows.stride, op.D, op.wide) : -INFINITY;
    const float new_max = fmaxf(softmax.max, warp_max(score));
    const float weight = lane < count ? expf(score - new_max) : 0;
    const float rescale = expf(softmax.max - new_max);
    softmax.sum = softmax.sum * rescale + warp_sum(weight);
    softmax.max = new_max;
    softmax.weights[lane] = weight;
    __syncwarp();
    add_rows(softmax.sums, rescale, softmax.weights, rows.values + begin * rows.stride, count,
             rows.stride, op.D);
    __syncwarp();
  }
}

template <class E>
__global__ void __launch_bounds__(kThreads) attention_cached(Operands<E> op) {
  extern __shared__ float floats[];  // the query (D), each warp's sums (kWarps, D)
  __shared__ float weights[kWarps][kWarp], maxima[kWarps], sums[kWarps];
  const std::int64_t t = blockIdx.x % op.T, head = blockIdx.x / op.T;  // of all B * H
  const std::int64_t b = head / op.H, h = head % op.H, C = op.C();
  const E* first_row = op.qkv + b * op.T * 3 * C + h * op.D;  // of the new positions
  const E* row = first_row + t * 3 * C;
  E* keys = op.keys + head * op.S * op.D;
  E* values = op.values + head * op.S * op.D;
  const float scale = 1.0f / sqrtf(static_cast<float>(op.D));
  for (std::int64_t d = threadIdx.x; d < op.D; d += kThreads) {
    floats[d] = scale * widen(row[d]);
    keys[(op.begin + t) * op.D + d] = row[C + d];
    values[(op.begin + t) * op.D + d] = row[2 * C + d];
  }
  __syncthreads();

  const int warp = threadIdx.x / kWarp;
  WarpSoftmax softmax{
      .max = -INFINITY, .sum = 0, .sums = floats + (1 + warp) * op.D, .weights = weights[warp]};
  clear(softmax.sums, op.D);
  attend<E>(softmax, floats, {keys, values, op.begin, op.D}, op);
  attend<E>(softmax, floats, {first_row + C, first_row + 2 * C, t + 1, 3 * C}, op);
  if (threadIdx.x % kWarp == 0) {
    maxima[warp] = softmax.max;
    sums[warp] = softmax.sum;
  }
  __syncthreads();

  float max = -INFINITY, sum = 0;
  for (int w = 0; w < kWarps; ++w) max = fmaxf(max, maxima[w]);
  for (int w = 0; w < kWarps; ++w) sum += expf(maxima[w] - max) * sums[w];
  E* out = op.out + (b * op.T + t) * C + h * op.D;
  for (std::int64_t d = threadIdx.x; d < op.D; d += kThreads) {
    float total = 0;
    for (int w = 0; w < kWarps; ++w) total += expf(maxima[w] - max) * floats[(1 + w) * op.D + d];
    out[d] = narrow<E>(total / sum);
  }
}

}  // namespace

void CudaBackend::execute(const AttentionCached& op) {
  const std::int64_t B = op.out.size(0), T = op.out.size(1), H = op.keys.size(1);
  const std::int64_t D = op.keys.size(3);
  const auto bytes = static_cast<std::size_t>((1 + kWarps) * D) * sizeof(float);
  with_compute_type(op.out.type(), [&]<class E>(std::type_identity<E>) {
    const Operands<E> operands{.out = op.out.as<E>(),
                               .keys = op.keys.as<E>(),
                               .values = op.values.as<E>(),
                               .qkv = op.qkv.as<E>(),
                               .T = T,
                               .H = H,
                               .S = op.keys.size(2),
                               .D = D,
                               .begin = op.begin,
                               .wide = is_wide(D, {op.keys, op.values, op.qkv})};
    allow_shared_memory(attention_cached<E>, bytes);
    attention_cached<E><<<grid_of(B * H * T), kThreads, bytes, stream()>>>(operands);
  });
  check_launch(AttentionCached::kName);
}

}  // namespace lathe
