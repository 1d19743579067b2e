// Linear layers. Their products go through cuBLASLt (gemm.h), except where rows or addresses are no
// multiples of 16 bytes: those take the plain kernel here, right for every shape, which hands each
// sum to an epilogue that finishes it in fp32 and rounds to the compute type once. A block makes a
// tile of the result and walks the depth in steps through shared memory.
#include <algorithm>

#include "cuda_backend.h"
#include "device.cuh"
#include "gelu.cuh"
#include "gemm.h"
#include "launch.h"
#include "partial_sums.h"

namespace lathe {
namespace {

using namespace cuda;

constexpr int kTile = 64;             // rows and columns of a block's result
constexpr int kDepth = 16;            // of a step
constexpr int kSide = 16;             // threads along each side of the tile
constexpr int kEach = kTile / kSide;  // rows and columns of a thread: every kSide-th
constexpr int kThreads = kSide * kSide;

// A matrix by its strides; transposing exchanges them.
template <class E>
struct Matrix {
  const E* values;
  std::int64_t row_stride, column_stride;

  __device__ float at(std::int64_t row, std::int64_t column) const {
    return widen(values[row * row_stride + column * column_stride]);
  }
};

template <class E>
struct Product {
  Matrix<E> a, b;  // (M, K), (K, N)
  std::int64_t M, N, K;
};

// One step's part of the factors. A column more than needed keeps threads that read a column out of
// each other's banks.
struct Step {
  float a[kTile][kDepth + 1];
  float b[kDepth][kTile + 1];
};

template <class E>
__device__ void load(Step& step, const Product<E>& p, std::int64_t k) {
  const std::int64_t row = std::int64_t{blockIdx.y} * kTile,
                     column = std::int64_t{blockIdx.x} * kTile;
  const int thread = static_cast<int>(threadIdx.x);
  for (int i = thread; i < kTile * kDepth; i += kThreads) {
    const int m = i / kDepth, a_k = i % kDepth, b_k = i / kTile, n = i % kTile;
    step.a[m][a_k] = row + m < p.M && k + a_k < p.K ? p.a.at(row + m, k + a_k) : 0.0f;
    step.b[b_k][n] = k + b_k < p.K && column + n < p.N ? p.b.at(k + b_k, column + n) : 0.0f;
  }
}

// Calls epilogue(row, column, sum) for each element of the product.
template <class E, class Epilogue>
__global__ void __launch_bounds__(kThreads) multiply(Product<E> p, Epilogue epilogue) {
  __shared__ Step step;
  const int x = static_cast<int>(threadIdx.x) % kSide, y = static_cast<int>(threadIdx.x) / kSide;
  float sums[kEach][kEach] = {};
  for (std::int64_t k = 0; k < p.K; k += kDepth) {
    load(step, p, k);
    __syncthreads();
    for (int d = 0; d < kDepth; ++d) {
      for (int i = 0; i < kEach; ++i) {
        const float a = step.a[y + i * kSide][d];
        for (int j = 0; j < kEach; ++j) sums[i][j] += a * step.b[d][x + j * kSide];
      }
    }
    __syncthreads();
  }
  for (int i = 0; i < kEach; ++i) {
    const std::int64_t row = std::int64_t{blockIdx.y} * kTile + y + i * kSide;
    for (int j = 0; j < kEach; ++j) {
      const std::int64_t column = std::int64_t{blockIdx.x} * kTile + x + j * kSide;
      if (row < p.M && column < p.N) epilogue(row, column, sums[i][j]);
    }
  }
}

// Optional operands are null.
template <class E>
struct FinishForward {
  E *out, *pre_gelu;
  const E *bias, *residual;
  std::int64_t O;

  __device__ void operator()(std::int64_t n, std::int64_t o, float y) const {
    const std::int64_t i = n * O + o;
    if (bias != nullptr) y += widen(bias[o]);
    if (residual != nullptr) y += widen(residual[i]);
    if (pre_gelu != nullptr) {
      pre_gelu[i] = narrow<E>(y);
      y = gelu(y);
    }
    out[i] = narrow<E>(y);
  }
};

template <class E>
struct FinishDX {
  E* d_x;
  const E* pre_gelu;
  std::int64_t I;

  __device__ void operator()(std::int64_t n, std::int64_t i, float value) const {
    if (pre_gelu != nullptr) value *= gelu_derivative(widen(pre_gelu[n * I + i]));
    d_x[n * I + i] = narrow<E>(value);
  }
};

struct FinishDWeight {
  float* d_weight;
  std::int64_t I;
  bool accumulate;

  __device__ void operator()(std::int64_t o, std::int64_t i, float value) const {
    float& to = d_weight[o * I + i];
    to = accumulate ? to + value : value;
  }
};

constexpr int kSumWarps = 8;                  // of a block of sum_rows
constexpr std::int64_t kSumBlocks = 4 * 132;  // of sum_rows: a wave of an H100
constexpr std::int64_t kLeastRows = 64;       // of a block

// A block leaves the sums over `rows` rows of d_out in 32 packs of columns, a lane each: a warp
// adds every kSumWarps-th row, then they add up in order.
template <class E, int W>
__global__ void __launch_bounds__(kSumWarps* kWarp)
    sum_rows(float* sums, const E* d_out, std::int64_t N, std::int64_t O, std::int64_t rows) {
  __shared__ float of_warps[kSumWarps][kWarp * W];
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = threadIdx.x / kWarp;
  const std::int64_t first = std::int64_t{blockIdx.x} * kWarp * W, o = first + lane * W;
  const std::int64_t begin = blockIdx.y * rows, end = min(N, begin + rows);
  float mine[W] = {};
  if (o < O) {
#pragma unroll 4
    for (std::int64_t n = begin + warp; n < end; n += kSumWarps) {
      const auto pack = *reinterpret_cast<const Pack<E, W>*>(d_out + n * O + o);
      for (int k = 0; k < W; ++k) mine[k] += widen(pack.values[k]);
    }
  }
  for (int k = 0; k < W; ++k) of_warps[warp][lane * W + k] = mine[k];
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < kWarp * W && first + i < O;
       i += kSumWarps * kWarp) {
    float total = 0;
    for (int w = 0; w < kSumWarps; ++w) total += of_warps[w][i];
    sums[blockIdx.y * O + first + i] = total;
  }
}

template <class E, class Epilogue>
void start(const Product<E>& product, const Epilogue& epilogue, cudaStream_t stream) {
  const dim3 grid(grid_of(ceil_div(product.N, kTile)), grid_of(ceil_div(product.M, kTile)));
  multiply<<<grid, kThreads, 0, stream>>>(product, epilogue);
}

// A row-major tensor as a factor, and its transpose.
template <class E>
Matrix<E> matrix(const Tensor& tensor) {
  return {.values = tensor.as<E>(), .row_stride = tensor.size(1), .column_stride = 1};
}
template <class E>
Matrix<E> transposed(const Tensor& tensor) {
  return {.values = tensor.as<E>(), .row_stride = 1, .column_stride = tensor.size(1)};
}

template <class E>
E* optional(const Tensor& tensor) {
  return tensor.empty() ? nullptr : tensor.as<E>();
}

// The products as cuBLASLt takes them.
Gemm forward_gemm(const LinearForward& op) {
  return {.out = op.out,
          .a = op.x,
          .b = op.weight,
          .a_transposed = false,
          .b_transposed = true,
          .c = op.residual,
          .bias = op.bias,
          .pre_gelu = op.pre_gelu,
          .epilogue = op.pre_gelu.empty() ? GemmEpilogue::none : GemmEpilogue::gelu};
}

Gemm d_x_gemm(const LinearBackward& op) {
  return {.out = op.d_x,
          .a = op.d_out,
          .b = op.weight,
          .a_transposed = false,
          .b_transposed = false,
          .c = {},
          .bias = {},
          .pre_gelu = op.pre_gelu,
          .epilogue = op.pre_gelu.empty() ? GemmEpilogue::none : GemmEpilogue::gelu_derivative};
}

Gemm d_weight_gemm(const LinearBackward& op) {
  return {.out = op.d_weight,
          .a = op.d_out,
          .b = op.x,
          .a_transposed = true,
          .b_transposed = false,
          .c = op.accumulate ? op.d_weight : Tensor(),
          .bias = {},
          .pre_gelu = {},
          .epilogue = GemmEpilogue::none};
}

// The same products by the plain kernel.
void plain_forward(const LinearForward& op, cudaStream_t stream) {
  const std::int64_t N = op.x.size(0), I = op.x.size(1), O = op.weight.size(0);
  with_compute_type(op.x.type(), [&]<class E>(std::type_identity<E>) {
    start<E>({.a = matrix<E>(op.x), .b = transposed<E>(op.weight), .M = N, .N = O, .K = I},
             FinishForward<E>{.out = op.out.as<E>(),
                              .pre_gelu = optional<E>(op.pre_gelu),
                              .bias = optional<E>(op.bias),
                              .residual = optional<E>(op.residual),
                              .O = O},
             stream);
  });
}

void plain_d_x(const LinearBackward& op, cudaStream_t stream) {
  const std::int64_t N = op.x.size(0), I = op.x.size(1), O = op.weight.size(0);
  with_compute_type(op.x.type(), [&]<class E>(std::type_identity<E>) {
    start<E>({.a = matrix<E>(op.d_out), .b = matrix<E>(op.weight), .M = N, .N = I, .K = O},
             FinishDX<E>{.d_x = op.d_x.as<E>(), .pre_gelu = optional<E>(op.pre_gelu), .I = I},
             stream);
  });
}

void plain_d_weight(const LinearBackward& op, cudaStream_t stream) {
  const std::int64_t N = op.x.size(0), I = op.x.size(1), O = op.weight.size(0);
  with_compute_type(op.x.type(), [&]<class E>(std::type_identity<E>) {
    start<E>(
        {.a = transposed<E>(op.d_out), .b = matrix<E>(op.x), .M = O, .N = I, .K = N},
        FinishDWeight{.d_weight = op.d_weight.as<float>(), .I = I, .accumulate = op.accumulate},
        stream);
  });
}

// How d_bias, the column sums of d_out, is cut into blocks: by the shape alone.
struct BiasGrid {
  std::int64_t tiles, rows, chunks;  // of 32 packs of columns; of a chunk; of rows

  BiasGrid(std::int64_t N, std::int64_t O, int width)
      : tiles(ceil_div(O, kWarp * width)),
        rows(std::max(kLeastRows, ceil_div(N, ceil_div(kSumBlocks, tiles)))),
        chunks(ceil_div(N, rows)) {}
};

}  // namespace

void CudaBackend::execute(const LinearForward& op) {
  const Gemm gemm = forward_gemm(op);
  if (Gemms::takes(gemm)) return gemms_.run(gemm);
  plain_forward(op, stream());
  check_launch(LinearForward::kName);
}

void CudaBackend::execute(const LinearBackward& op) {
  if (!op.d_x.empty()) {
    const Gemm d_x = d_x_gemm(op);
    Gemms::takes(d_x) ? gemms_.run(d_x) : plain_d_x(op, stream());
  }
  const Gemm d_weight = d_weight_gemm(op);
  Gemms::takes(d_weight) ? gemms_.run(d_weight) : plain_d_weight(op, stream());
  if (!op.d_bias.empty()) add_bias_gradient(op);
  check_launch(LinearBackward::kName);
}

void CudaBackend::add_bias_gradient(const LinearBackward& op) {
  const std::int64_t N = op.d_out.size(0), O = op.d_out.size(1);
  with_compute_type(op.x.type(), [&]<class E>(std::type_identity<E>) {
    const auto start = [&]<int W>(std::integral_constant<int, W>) {
      const BiasGrid cut(N, O, W);
      float* sums = scratch(cut.chunks * O);
      const dim3 grid(grid_of(cut.tiles), grid_of(cut.chunks));
      sum_rows<E, W>
          <<<grid, kSumWarps * kWarp, 0, stream()>>>(sums, op.d_out.as<E>(), N, O, cut.rows);
      add_partial_sums({.values = sums,
                        .blocks = cut.chunks,
                        .C = O,
                        .outs = {op.d_bias.as<float>(), nullptr},
                        .accumulate = op.accumulate},
                       stream());
    };
    is_wide(O, {op.d_out}) ? start(std::integral_constant<int, kWidest<E>>{})
                           : start(std::integral_constant<int, 1>{});
  });
}

}  // namespace lathe
