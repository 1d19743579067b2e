// Causal attention forward on tensor cores: FlashAttention-2 (Dao 2023). Each warp has 32 queries
// of one head, so that a fragment of keys or values serves two products, and walks the keys up to
// them with an online softmax (Milakov & Gimelshein 2018).
#include <cmath>

#include "attention_mma.cuh"

namespace lathe::cuda {
namespace {

constexpr int kWarpQueries = 32;
constexpr int kQueries = kMmaWarps * kWarpQueries;  // of a block

// Keys whose scores are in registers at a time.
template <int D>
constexpr int kKeysAtOnce = D <= 64 ? kWalked : kWalked / 2;

template <int D>
struct Memory {
  using Queries = SharedTile<kQueries, D>;

  Queries queries;  // in the end the output
  SharedTile<kWalked, D> keys[2], values[2];
};

template <int D>
using LeftQueries = std::conditional_t<D <= 64, KeptRows<kWarpQueries, typename Memory<D>::Queries>,
                                       ReadRows<kWarpQueries, typename Memory<D>::Queries>>;

struct Operands {
  Bf16* out;
  float* log_sum_exp;
  const Bf16* qkv;
  MmaShape shape;
};

// The four lanes that share rows of a fragment.
__device__ float quad_max(float x) {
  for (int offset = 1; offset < 4; offset *= 2) x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, offset));
  return x;
}
__device__ float quad_sum(float x) {
  for (int offset = 1; offset < 4; offset *= 2) x += __shfl_xor_sync(kAllLanes, x, offset);
  return x;
}

// A warp's queries on their way through the keys. `max` is of the scores seen so far, times
// log2(e); `sum` is this lane's part of the sum of 2^(score - max), `out` of that times values.
template <int D>
struct QueryRows {
  using Out = WarpSums<kWarpQueries, D>;

  Out out = {};
  float max[Out::kLaneRows], sum[Out::kLaneRows] = {};

  __device__ QueryRows() {
#pragma unroll
    for (float& m : max) m = -INFINITY;
  }

  // Turns products of queries and keys into probabilities under the new maximum. A row's first
  // key, which no mask hides, gives it a finite one, unless there is a NaN, which stays.
  template <int Keys>
  __device__ void update(WarpSums<kWarpQueries, Keys>& scores) {
    // 1 / sqrt(D) and log2(e) go with the subtraction into one instruction.
    const float scale = kLog2E / sqrtf(static_cast<float>(D));
#pragma unroll
    for (int row = 0; row < Out::kLaneRows; ++row) {
      float largest = -INFINITY;
#pragma unroll
      for (int i = 0; i < Keys / 4; ++i) largest = fmaxf(largest, scores.at(row, i));
      const float new_max = fmaxf(max[row], quad_max(largest) * scale);
      const float rescale = fast_exp2(max[row] - new_max);
      max[row] = new_max;
      sum[row] *= rescale;
#pragma unroll
      for (int i = 0; i < Keys / 4; ++i) {
        scores.at(row, i) = fast_exp2(fmaf(scores.at(row, i), scale, -new_max));
        sum[row] += scores.at(row, i);
      }
#pragma unroll
      for (int i = 0; i < Out::kLaneColumns; ++i) out.at(row, i) *= rescale;
    }
  }

  // Divides by the sums.
  __device__ void finish(float* log_sum_exp, int first_query, int T) {
    constexpr float kLn2 = 0.693147181f;
#pragma unroll
    for (int row = 0; row < Out::kLaneRows; ++row) {
      const float total = quad_sum(sum[row]);
      const int query = first_query + Out::row_of(row);
      if (query < T && lane_index() % 4 == 0) log_sum_exp[query] = (max[row] + log2f(total)) * kLn2;
      const float factor = 1.0f / total;
#pragma unroll
      for (int i = 0; i < Out::kLaneColumns; ++i) out.at(row, i) *= factor;
    }
  }
};

template <int D>
__global__ void __launch_bounds__(kMmaThreads, 2) mma_attention_forward(Operands op) {
  alignas(256) extern __shared__ unsigned char memory_bytes[];
  auto& memory = *reinterpret_cast<Memory<D>*>(memory_bytes);
  constexpr int kAtOnce = kKeysAtOnce<D>;
  const int C = op.shape.C;
  const auto queries = head_rows<D>(op.qkv, op.shape, 3 * C, 0);
  const auto keys = head_rows<D>(op.qkv, op.shape, 3 * C, C);
  const auto values = head_rows<D>(op.qkv, op.shape, 3 * C, 2 * C);
  // Blocks start in the order of blockIdx: the last queries of a head, which see most keys, first,
  // and heads in turn, whose keys then stay in the L2 cache.
  const int block_query = static_cast<int>(gridDim.x - 1 - blockIdx.x) * kQueries;
  const int warp_row = static_cast<int>(threadIdx.x) / kWarp * kWarpQueries;
  const int first_query = block_query + warp_row;

  const auto start = [&](int key, int buffer) {
    start_copy(memory.keys[buffer], keys, key);
    start_copy(memory.values[buffer], values, key);
  };
  start_copy(memory.queries, queries, block_query);
  start(0, 0);
  finish_copies();

  const LeftQueries<D> left(memory.queries, warp_row);
  QueryRows<D> rows;
  const auto attend = [&](int block_key, int buffer) {
#pragma unroll 1  // not to have the fragments of several in registers
    for (int i = 0; i < kWalked; i += kAtOnce) {
      const int first_key = block_key + i;
      if (first_key >= first_query + kWarpQueries) break;  // later than all queries of the warp
      auto scores = row_products<kAtOnce>(left, memory.keys[buffer], i);
      if (first_key + kAtOnce > first_query + 1) {
        scores.each([&](float& score, int row, int column) {
          const int query = first_query + scores.row_of(row);
          if (first_key + scores.column_of(column) > query) score = -INFINITY;
        });
      }
      rows.update(scores);
      add_weighted_rows(rows.out, scores, memory.values[buffer], i);
    }
  };
  walk(0, min(op.shape.T, block_query + kQueries), start, attend);

  rows.finish(head_values(op.log_sum_exp, op.shape), first_query, op.shape.T);
  store_rows(head_rows<D>(op.out, op.shape, C, 0), first_query, memory.queries, warp_row, rows.out);
}

}  // namespace

void mma_attention(const AttentionForward& op, cudaStream_t stream) {
  const MmaShape shape = mma_shape(op);
  const Operands operands{.out = op.out.as<Bf16>(),
                          .log_sum_exp = op.log_sum_exp.as<float>(),
                          .qkv = op.qkv.as<Bf16>(),
                          .shape = shape};
  with_mma_head_size(shape.C / shape.H, [&]<int D>(std::integral_constant<int, D>) {
    allow_shared_memory(mma_attention_forward<D>, sizeof(Memory<D>));
    mma_attention_forward<D>
        <<<shape.grid(kQueries), kMmaThreads, sizeof(Memory<D>), stream>>>(operands);
  });
}

}  // namespace lathe::cuda
