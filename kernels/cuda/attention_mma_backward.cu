// Causal attention backward on tensor cores: probabilities from log_sum_exp (Dao 2023), in two
// kernels, each with all of a result's sums in one warp's registers. One has queries and walks
// keys, the other has keys and walks queries. Both make the scores: 7 products where one kernel has
// 5, but that one would add d_query up through memory, in the order in which blocks happen to come.
#include <cmath>

#include "attention_mma.cuh"

namespace lathe::cuda {
namespace {

// Walked rows whose scores are in registers at a time: as many as spill nothing.
constexpr int kKeysAtOnce = 32;
template <int D>
constexpr int kQueriesAtOnce = D == 32 ? 32 : 16;

template <int D>
constexpr int kWarpRows = D <= 64 ? 32 : 16;
template <int D>
constexpr int kBlockRows = kMmaWarps* kWarpRows<D>;

template <int D>
using OwnTile = SharedTile<kBlockRows<D>, D>;
template <int D>
using WalkedTile = SharedTile<kWalked, D>;

struct Operands {
  Bf16* d_qkv;
  float* dots;  // (B, H, T): of d_out and out, written with d_query, read with d_key
  const Bf16 *d_out, *qkv, *out;
  const float* log_sum_exp;
  MmaShape shape;
};

// The block's head in each of the operands. Made where they are used: addresses that wait in
// registers are what spills.
template <int D>
struct Head {
  const Operands& op;

  __device__ HeadRows<const Bf16> queries() const { return third(op.qkv, 0); }
  __device__ HeadRows<const Bf16> keys() const { return third(op.qkv, 1); }
  __device__ HeadRows<const Bf16> values() const { return third(op.qkv, 2); }
  __device__ HeadRows<Bf16> d_queries() const { return third(op.d_qkv, 0); }
  __device__ HeadRows<Bf16> d_keys() const { return third(op.d_qkv, 1); }
  __device__ HeadRows<Bf16> d_values() const { return third(op.d_qkv, 2); }
  __device__ HeadRows<const Bf16> outs() const {
    return head_rows<D>(op.out, op.shape, op.shape.C, 0);
  }
  __device__ HeadRows<const Bf16> d_outs() const {
    return head_rows<D>(op.d_out, op.shape, op.shape.C, 0);
  }
  __device__ const float* log_sum_exps() const { return head_values(op.log_sum_exp, op.shape); }
  __device__ float* dots() const { return head_values(op.dots, op.shape); }

 private:
  template <class E>
  __device__ HeadRows<E> third(E* qkv, int i) const {
    return head_rows<D>(qkv, op.shape, 3 * op.shape.C, i * op.shape.C);
  }
};

template <int D>
__device__ float score_scale() {
  return 1.0f / sqrtf(static_cast<float>(D));
}

__device__ float dot(const uint4& a, const uint4& b) {
  const auto* x = reinterpret_cast<const Bf16*>(&a);
  const auto* y = reinterpret_cast<const Bf16*>(&b);
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kPiece; ++i) sum += widen(x[i]) * widen(y[i]);
  return sum;
}

template <int D>
struct QueryMemory {
  OwnTile<D> queries, d_outs;  // queries: in the end d_query
  WalkedTile<D> keys[2], values[2];
  float dots[kBlockRows<D>];
};

// The dot products of a warp's rows of d_out and out, for its lanes and for the other kernel.
template <int D>
__device__ void find_dots(QueryMemory<D>& memory, const Head<D>& head, int warp_row,
                          int first_query) {
  constexpr int kPieces = OwnTile<D>::kPieces;
  const int piece = lane_index() % kPieces;
#pragma unroll
  for (int i = 0; i < kWarpRows<D>; i += kWarp / kPieces) {
    const int row = i + lane_index() / kPieces, query = first_query + row;
    uint4 out = {};
    if (query < head.outs().count) {
      out = *reinterpret_cast<const uint4*>(head.outs().at(query) + piece * kPiece);
    }
    float sum = dot(memory.d_outs.at(warp_row + row, piece), out);
    for (int offset = kPieces / 2; offset > 0; offset /= 2)
      sum += __shfl_xor_sync(kAllLanes, sum, offset);
    if (piece == 0) {
      memory.dots[warp_row + row] = sum;
      if (query < head.outs().count) head.dots()[query] = sum;
    }
  }
  __syncwarp();
}

// With P the probabilities: dS = P * (d_out value^T - dot), d_query = scale dS key.
template <int D>
__global__ void __launch_bounds__(kMmaThreads, 2) mma_attention_d_query(Operands op) {
  constexpr int kRows = kWarpRows<D>;
  using LeftRows = KeptRows<kRows, OwnTile<D>>;
  alignas(256) extern __shared__ unsigned char memory_bytes[];
  auto& memory = *reinterpret_cast<QueryMemory<D>*>(memory_bytes);
  const Head<D> head{op};
  // The longest rows of a head first, as in the forward pass.
  const int block_query = static_cast<int>(gridDim.x - 1 - blockIdx.x) * kBlockRows<D>;
  const int warp_row = static_cast<int>(threadIdx.x) / kWarp * kRows;
  const int first_query = block_query + warp_row;

  const auto start = [&](int key, int buffer) {
    start_copy(memory.keys[buffer], head.keys(), key);
    start_copy(memory.values[buffer], head.values(), key);
  };
  start_copy(memory.queries, head.queries(), block_query);
  start_copy(memory.d_outs, head.d_outs(), block_query);
  start(0, 0);
  finish_copies();

  using Sums = WarpSums<kRows, D>;
  Sums d_query = {};
  find_dots(memory, head, warp_row, first_query);
  const LeftRows queries(memory.queries, warp_row), d_outs(memory.d_outs, warp_row);
  float dots[Sums::kLaneRows], log_sums[Sums::kLaneRows];  // to base 2
#pragma unroll
  for (int row = 0; row < Sums::kLaneRows; ++row) {
    const int query = first_query + Sums::row_of(row);
    dots[row] = memory.dots[warp_row + Sums::row_of(row)];
    log_sums[row] = query < op.shape.T ? head.log_sum_exps()[query] * kLog2E : 0;
  }

  const auto attend = [&](int block_key, int buffer) {
#pragma unroll 1  // not to have the fragments of several in registers
    for (int i = 0; i < kWalked; i += kKeysAtOnce) {
      const int first_key = block_key + i;
      if (first_key >= first_query + kRows) break;  // later than all queries of the warp
      auto scores = row_products<kKeysAtOnce>(queries, memory.keys[buffer], i);
      if (first_key + kKeysAtOnce > first_query + 1) {
        scores.each([&](float& score, int row, int column) {
          const int query = first_query + scores.row_of(row);
          if (first_key + scores.column_of(column) > query) score = -INFINITY;
        });
      }
      const auto d_weights = row_products<kKeysAtOnce>(d_outs, memory.values[buffer], i);
      scores.each([&](float& score, int row, int column) {
        score = fast_exp2(fmaf(score, score_scale<D>() * kLog2E, -log_sums[row])) *
                (d_weights.at(row, column) - dots[row]);
      });
      add_weighted_rows(d_query, scores, memory.keys[buffer], i);
    }
  };
  walk(0, min(op.shape.T, block_query + kBlockRows<D>), start, attend);

  d_query.each([](float& value, int, int) { value *= score_scale<D>(); });
  store_rows(head.d_queries(), first_query, memory.queries, warp_row, d_query);
}

template <int D>
struct KeyMemory {
  OwnTile<D> keys, values;  // in the end d_key and d_value
  WalkedTile<D> queries[2], d_outs[2];
  float log_sum_exps[2][kWalked], dots[2][kWalked];
};

// d_value = P^T d_out, d_key = scale dS^T query, over the queries from a key's place on. Matrices
// stand transposed: a warp's keys are their rows.
template <int D>
__global__ void __launch_bounds__(kMmaThreads, 2) mma_attention_d_key_value(Operands op) {
  constexpr int kRows = kWarpRows<D>;
  using LeftRows = ReadRows<kRows, OwnTile<D>>;
  alignas(256) extern __shared__ unsigned char memory_bytes[];
  auto& memory = *reinterpret_cast<KeyMemory<D>*>(memory_bytes);
  constexpr int kAtOnce = kQueriesAtOnce<D>;
  const Head<D> head{op};
  const int block_key = static_cast<int>(blockIdx.x) * kBlockRows<D>;  // the first have most to do
  const int warp_row = static_cast<int>(threadIdx.x) / kWarp * kRows;
  const int first_key = block_key + warp_row;

  const auto start = [&](int query, int buffer) {
    start_copy(memory.queries[buffer], head.queries(), query);
    start_copy(memory.d_outs[buffer], head.d_outs(), query);
    static_assert(kWalked <= kMmaThreads);
    if (const int i = static_cast<int>(threadIdx.x); i < kWalked) {
      const bool exists = query + i < op.shape.T;
      start_copy(memory.log_sum_exps[buffer][i], head.log_sum_exps() + query + i, exists);
      start_copy(memory.dots[buffer][i], head.dots() + query + i, exists);
    }
  };
  start_copy(memory.keys, head.keys(), block_key);
  start_copy(memory.values, head.values(), block_key);
  start(block_key, 0);
  finish_copies();

  const LeftRows keys(memory.keys, warp_row), values(memory.values, warp_row);
  WarpSums<kRows, D> d_key = {}, d_value = {};
  const auto attend = [&](int block_query, int buffer) {
#pragma unroll 1  // not to have the fragments of several in registers
    for (int i = 0; i < kWalked; i += kAtOnce) {
      const int first_query = block_query + i;
      if (first_query + kAtOnce <= first_key) continue;  // earlier than all keys of the warp
      auto weights = row_products<kAtOnce>(keys, memory.queries[buffer], i);
      if (first_query < first_key + kRows - 1) {
        weights.each([&](float& score, int row, int column) {
          const int key = first_key + weights.row_of(row);
          if (key > first_query + weights.column_of(column)) score = -INFINITY;
        });
      }
      weights.each([&](float& weight, int, int column) {
        const float log_sum = memory.log_sum_exps[buffer][i + weights.column_of(column)] * kLog2E;
        weight = fast_exp2(fmaf(weight, score_scale<D>() * kLog2E, -log_sum));
      });
      add_weighted_rows(d_value, weights, memory.d_outs[buffer], i);
      const auto d_weights = row_products<kAtOnce>(values, memory.d_outs[buffer], i);
      weights.each([&](float& weight, int row, int column) {
        const float dot = memory.dots[buffer][i + weights.column_of(column)];
        weight *= d_weights.at(row, column) - dot;
      });
      add_weighted_rows(d_key, weights, memory.queries[buffer], i);
    }
  };
  walk(block_key, op.shape.T, start, attend);

  d_key.each([](float& value, int, int) { value *= score_scale<D>(); });
  store_rows(head.d_keys(), first_key, memory.keys, warp_row, d_key);
  store_rows(head.d_values(), first_key, memory.values, warp_row, d_value);
}

}  // namespace

void mma_attention(const AttentionBackward& op, float* dots, cudaStream_t stream) {
  const MmaShape shape = mma_shape(op);
  const Operands operands{.d_qkv = op.d_qkv.as<Bf16>(),
                          .dots = dots,
                          .d_out = op.d_out.as<Bf16>(),
                          .qkv = op.qkv.as<Bf16>(),
                          .out = op.out.as<Bf16>(),
                          .log_sum_exp = op.log_sum_exp.as<float>(),
                          .shape = shape};
  with_mma_head_size(shape.C / shape.H, [&]<int D>(std::integral_constant<int, D>) {
    const dim3 grid = shape.grid(kBlockRows<D>);
    constexpr std::size_t kQueryBytes = sizeof(QueryMemory<D>), kKeyBytes = sizeof(KeyMemory<D>);
    allow_shared_memory(mma_attention_d_query<D>, kQueryBytes);
    allow_shared_memory(mma_attention_d_key_value<D>, kKeyBytes);
    mma_attention_d_query<D><<<grid, kMmaThreads, kQueryBytes, stream>>>(operands);
    mma_attention_d_key_value<D><<<grid, kMmaThreads, kKeyBytes, stream>>>(operands);
  });
}

}  // namespace lathe::cuda
