// Causal attention without a (T, T) buffer: online softmax forward (Milakov & Gimelshein 2018),
// probabilities from log_sum_exp backward (Dao 2023). A warp takes a query (forward, d_query) or a
// key (d_key, d_value) of one head and walks the rows that it sees in order, 32 at a time: a lane
// per row for the scores, a lane per channel for the sums over rows.
//
// bf16 goes to the kernels of attention_mma.h instead, where head size and addresses suit them.
#include <cmath>

#include "attention_mma.h"
#include "attention_rows.cuh"
#include "cuda_backend.h"
#include "launch.h"

namespace lathe {
namespace {

using namespace cuda;

constexpr int kWarps = 4;  // of a block
constexpr int kThreads = kWarps * kWarp;

struct Shape {
  std::int64_t B, T, C, H;
  __host__ __device__ std::int64_t D() const { return C / H; }  // channels of a head
  __host__ __device__ std::int64_t rows() const { return B * H * T; }
};

// One row of one head: the work of a warp.
struct HeadRow {
  std::int64_t b, h, t;
};

__device__ bool find_row(const Shape& shape, HeadRow& row) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarp;
  row = {i / (shape.H * shape.T), i / shape.T % shape.H, i % shape.T};
  return i < shape.rows();
}

// Where channel 0 of a head's row stands in a (B, T, width) tensor.
template <class E>
__device__ E* row_of(E* tensor, const Shape& shape, const HeadRow& row, std::int64_t width) {
  return tensor + (row.b * shape.T + row.t) * width + row.h * shape.D();
}

// Sums over the rows that a warp walks, each channel with its lane, and values of 32 rows for all
// lanes to see.
struct WarpMemory {
  float values[kWarp], others[kWarp];
};

template <class E>
__device__ float dot(const E* a, const E* b, std::int64_t count) {
  float sum = 0;
  for (std::int64_t d = 0; d < count; ++d) sum += widen(a[d]) * widen(b[d]);
  return sum;
}

template <class E>
__device__ void store(E* to, const float* sums, float factor, std::int64_t D) {
  for (std::int64_t d = threadIdx.x % kWarp; d < D; d += kWarp) to[d] = narrow<E>(sums[d] * factor);
}

template <class E>
__global__ void __launch_bounds__(kThreads)
    attention_forward(E* out, float* log_sum_exp, const E* qkv, Shape shape) {
  extern __shared__ float all_sums[];  // (kWarps, D)
  __shared__ WarpMemory memories[kWarps];
  HeadRow query;
  if (!find_row(shape, query)) return;  // a whole warp
  const std::int64_t D = shape.D(), stride = 3 * shape.C;
  WarpMemory& memory = memories[threadIdx.x / kWarp];
  float* sums = all_sums + threadIdx.x / kWarp * D;
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  const E* q = row_of(qkv, shape, query, stride);
  const E* first_key = row_of(qkv, shape, {query.b, query.h, 0}, stride) + shape.C;
  const float scale = 1.0f / sqrtf(static_cast<float>(D));
  float max = -INFINITY, sum = 0;
  clear(sums, D);
  for (std::int64_t begin = 0; begin <= query.t; begin += kWarp) {
    const std::int64_t count = min(std::int64_t{kWarp}, query.t + 1 - begin);
    const E* keys = first_key + begin * stride;
    const float score = lane < count ? dot(q, keys + lane * stride, D) * scale : -INFINITY;
    const float new_max = fmaxf(max, warp_max(score));
    const float probability = lane < count ? expf(score - new_max) : 0;
    const float rescale = expf(max - new_max);
    sum = sum * rescale + warp_sum(probability);
    max = new_max;
    memory.values[lane] = probability;
    __syncwarp();
    add_rows(sums, rescale, memory.values, keys + shape.C, count, stride, D);
    __syncwarp();
  }
  store(row_of(out, shape, query, shape.C), sums, 1.0f / sum, D);
  if (lane == 0) {
    log_sum_exp[(query.b * shape.H + query.h) * shape.T + query.t] = max + logf(sum);
  }
}

// The operands of a backward, as kernels take them.
template <class E>
struct Backward {
  E* d_qkv;
  float* dots;  // (B, H, T): of d_out and out, written with d_query, read with d_key
  const E *d_out, *qkv, *out;
  const float* log_sum_exp;
  Shape shape;
};

// With P the probabilities and dot = sum(d_out * out): dS = P * (d_out value^T - dot),
// d_query = scale dS key.
template <class E>
__global__ void __launch_bounds__(kThreads) attention_d_query(Backward<E> op) {
  extern __shared__ float all_sums[];
  __shared__ WarpMemory memories[kWarps];
  HeadRow query;
  if (!find_row(op.shape, query)) return;
  const std::int64_t D = op.shape.D(), C = op.shape.C, stride = 3 * C;
  WarpMemory& memory = memories[threadIdx.x / kWarp];
  float* sums = all_sums + threadIdx.x / kWarp * D;
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  const E* q = row_of(op.qkv, op.shape, query, stride);
  const E* d_out = row_of(op.d_out, op.shape, query, C);
  const E* first_key = row_of(op.qkv, op.shape, {query.b, query.h, 0}, stride) + C;
  const std::int64_t at = (query.b * op.shape.H + query.h) * op.shape.T + query.t;
  const float scale = 1.0f / sqrtf(static_cast<float>(D));
  const float row_dot = dot(d_out, row_of(op.out, op.shape, query, C), D);
  if (lane == 0) op.dots[at] = row_dot;
  clear(sums, D);
  for (std::int64_t begin = 0; begin <= query.t; begin += kWarp) {
    const std::int64_t count = min(std::int64_t{kWarp}, query.t + 1 - begin);
    const E* keys = first_key + begin * stride;
    float d_score = 0;
    if (lane < count) {
      const E* key = keys + lane * stride;
      const float probability = expf(dot(q, key, D) * scale - op.log_sum_exp[at]);
      d_score = probability * (dot(d_out, key + C, D) - row_dot);
    }
    memory.values[lane] = d_score;
    __syncwarp();
    add_rows(sums, 1.0f, memory.values, keys, count, stride, D);
    __syncwarp();
  }
  store(row_of(op.d_qkv, op.shape, query, stride), sums, scale, D);
}

// d_value = P^T d_out, d_key = scale dS^T query, over the queries from the key's place on.
template <class E>
__global__ void __launch_bounds__(kThreads) attention_d_key_value(Backward<E> op) {
  extern __shared__ float all_sums[];
  __shared__ WarpMemory memories[kWarps];
  HeadRow key;
  if (!find_row(op.shape, key)) return;
  const std::int64_t D = op.shape.D(), C = op.shape.C, stride = 3 * C;
  WarpMemory& memory = memories[threadIdx.x / kWarp];
  float* key_sums = all_sums + threadIdx.x / kWarp * 2 * D;
  float* value_sums = key_sums + D;
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  const E* k = row_of(op.qkv, op.shape, key, stride) + C;
  const E* first_query = row_of(op.qkv, op.shape, {key.b, key.h, 0}, stride);
  const E* first_d_out = row_of(op.d_out, op.shape, {key.b, key.h, 0}, C);
  const std::int64_t head = (key.b * op.shape.H + key.h) * op.shape.T;
  const float scale = 1.0f / sqrtf(static_cast<float>(D));
  clear(key_sums, 2 * D);
  for (std::int64_t begin = key.t; begin < op.shape.T; begin += kWarp) {
    const std::int64_t count = min(std::int64_t{kWarp}, op.shape.T - begin);
    const E* queries = first_query + begin * stride;
    const E* d_outs = first_d_out + begin * C;
    float probability = 0, d_score = 0;
    if (lane < count) {
      const std::int64_t at = head + begin + lane;
      probability = expf(dot(queries + lane * stride, k, D) * scale - op.log_sum_exp[at]);
      d_score = probability * (dot(d_outs + lane * C, k + C, D) - op.dots[at]);
    }
    memory.values[lane] = d_score;
    memory.others[lane] = probability;
    __syncwarp();
    add_rows(key_sums, 1.0f, memory.values, queries, count, stride, D);
    add_rows(value_sums, 1.0f, memory.others, d_outs, count, C, D);
    __syncwarp();
  }
  E* d_key = row_of(op.d_qkv, op.shape, key, stride) + C;
  store(d_key, key_sums, scale, D);
  store(d_key + C, value_sums, 1.0f, D);
}

std::size_t shared_bytes(std::int64_t floats_of_a_warp) {
  return static_cast<std::size_t>(kWarps * floats_of_a_warp) * sizeof(float);
}

}  // namespace

void CudaBackend::execute(const AttentionForward& op) {
  const Shape shape{
      .B = op.out.size(0), .T = op.out.size(1), .C = op.out.size(2), .H = op.log_sum_exp.size(1)};
  if (suits_mma(op)) {
    mma_attention(op, stream());
    return check_launch(AttentionForward::kName);
  }
  with_compute_type(op.out.type(), [&]<class E>(std::type_identity<E>) {
    const std::size_t bytes = shared_bytes(shape.D());
    allow_shared_memory(attention_forward<E>, bytes);
    attention_forward<E><<<grid_of(ceil_div(shape.rows(), kWarps)), kThreads, bytes, stream()>>>(
        op.out.as<E>(), op.log_sum_exp.as<float>(), op.qkv.as<E>(), shape);
  });
  check_launch(AttentionForward::kName);
}

void CudaBackend::execute(const AttentionBackward& op) {
  const Shape shape{
      .B = op.out.size(0), .T = op.out.size(1), .C = op.out.size(2), .H = op.log_sum_exp.size(1)};
  float* dots = scratch(shape.rows());
  if (suits_mma(op)) {
    mma_attention(op, dots, stream());
    return check_launch(AttentionBackward::kName);
  }
  const unsigned grid = grid_of(ceil_div(shape.rows(), kWarps));
  with_compute_type(op.out.type(), [&]<class E>(std::type_identity<E>) {
    const Backward<E> backward{.d_qkv = op.d_qkv.as<E>(),
                               .dots = dots,
                               .d_out = op.d_out.as<E>(),
                               .qkv = op.qkv.as<E>(),
                               .out = op.out.as<E>(),
                               .log_sum_exp = op.log_sum_exp.as<float>(),
                               .shape = shape};
    allow_shared_memory(attention_d_query<E>, shared_bytes(shape.D()));
    allow_shared_memory(attention_d_key_value<E>, shared_bytes(2 * shape.D()));
    attention_d_query<E><<<grid, kThreads, shared_bytes(shape.D()), stream()>>>(backward);
    attention_d_key_value<E><<<grid, kThreads, shared_bytes(2 * shape.D()), stream()>>>(backward);
  });
  check_launch(AttentionBackward::kName);
}

}  // namespace lathe
