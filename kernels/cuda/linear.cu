// Linear layers. Their products go through cuBLASLt (gemm.h), except where rows or addresses are no
// multiples of 16 bytes: those take the plain kernel here, right for every shape, which hands each
// sum to an epilogue that finishes it in fp32 and rounds to the compute type once. A block makes a
// tile of the result and walks the depth in steps through shared memory.
#include "cuda_backend.h"
#include "device.cuh"
#include "gelu.cuh"
#include "gemm.h"
#include "launch.h"

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

constexpr int kColumns = 32;   // of a block of column_sums, a lane each
constexpr int kRowGroups = 8;  // rows that are added side by side, a warp each

// d_bias = column sums of d_out: every warp adds every kRowGroups-th row, then they add up in
// order.
template <class E>
__global__ void __launch_bounds__(kColumns* kRowGroups)
    column_sums(float* d_bias, const E* d_out, std::int64_t N, std::int64_t O, bool accumulate) {
  __shared__ float sums[kRowGroups][kColumns];
  const int lane = static_cast<int>(threadIdx.x) % kColumns;
  const int group = static_cast<int>(threadIdx.x) / kColumns;
  const std::int64_t o = std::int64_t{blockIdx.x} * kColumns + lane;
  float sum = 0;
  for (std::int64_t n = group; n < N && o < O; n += kRowGroups) sum += widen(d_out[n * O + o]);
  sums[group][lane] = sum;
  __syncthreads();
  if (group != 0 || o >= O) return;
  float total = accumulate ? d_bias[o] : 0;
  for (int i = 0; i < kRowGroups; ++i) total += sums[i][lane];
  d_bias[o] = total;
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

void add_bias_gradient(const LinearBackward& op, cudaStream_t stream) {
  const std::int64_t N = op.d_out.size(0), O = op.d_out.size(1);
  with_compute_type(op.x.type(), [&]<class E>(std::type_identity<E>) {
    column_sums<E><<<grid_of(ceil_div(O, kColumns)), kColumns * kRowGroups, 0, stream>>>(
        op.d_bias.as<float>(), op.d_out.as<E>(), N, O, op.accumulate);
  });
}

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
  if (!op.d_bias.empty()) add_bias_gradient(op, stream());
  check_launch(LinearBackward::kName);
}

}  // namespace lathe
