// Linear layers: three matrix products, each finished tile by tile while the tile is in cache. The
// finish works on the fp32 accumulator and rounds to the compute type once, at its end.
#include <algorithm>
#include <type_traits>

#include "bf16_blocks.h"
#include "compute_type.h"
#include "cpu_backend.h"
#include "few_rows.h"
#include "gelu.h"
#include "matmul.h"
#include "scratch.h"
#include "wide.h"

namespace lathe {
namespace {

// Where a tile's row `r` lies in a matrix of c's shape.
template <class T>
T* row_of(const Tensor& matrix, const Tile& tile, std::int64_t r) {
  return matrix.as<T>() + (tile.row + r) * matrix.size(1) + tile.column;
}

template <class T>
void store(T* __restrict out, const float* __restrict values, std::int64_t count) {
#pragma omp simd
  for (std::int64_t c = 0; c < count; ++c) out[c] = from_float<T>(values[c]);
}

template <class T>
void add(float* __restrict values, const T* __restrict x, std::int64_t count) {
#pragma omp simd
  for (std::int64_t c = 0; c < count; ++c) values[c] += to_float(x[c]);
}

// One pass over each row: passes cost as much as what they compute.
template <class T, bool kHasBias>
LATHE_ALSO_AVX512 void finish_rows(const LinearForward& op, const Tile& tile) {
  const T* bias = kHasBias ? op.bias.as<T>() + tile.column : nullptr;
  for (std::int64_t r = 0; r < tile.rows; ++r) {
    const float* values = tile.at(r);
    const auto sum = [&](std::int64_t c) {
      if constexpr (kHasBias) return values[c] + to_float(bias[c]);
      return values[c];
    };
    T* out = row_of<T>(op.out, tile, r);
    if (!op.residual.empty()) {
      const T* residual = row_of<T>(op.residual, tile, r);  // may be out
#pragma omp simd
      for (std::int64_t c = 0; c < tile.columns; ++c) {
        out[c] = from_float<T>(sum(c) + to_float(residual[c]));
      }
    } else if (!op.pre_gelu.empty()) {
      T* pre_gelu = row_of<T>(op.pre_gelu, tile, r);
#pragma omp simd
      for (std::int64_t c = 0; c < tile.columns; ++c) {
        const float x = sum(c);
        pre_gelu[c] = from_float<T>(x);
        out[c] = from_float<T>(gelu(x));
      }
    } else {
#pragma omp simd
      for (std::int64_t c = 0; c < tile.columns; ++c) out[c] = from_float<T>(sum(c));
    }
  }
}

template <class T>
void finish_forward(const LinearForward& op, const Tile& tile) {
  op.bias.empty() ? finish_rows<T, false>(op, tile) : finish_rows<T, true>(op, tile);
}

// Up to here a forward pass is bound by reading the weight, or nearly. As many as there are samples
// side by side (lathe/sample.h).
constexpr std::int64_t kFewRows = 8;

// Columns of out that one task makes: long runs of memory, and some for every thread. (Each sum is
// the same wherever it is made.)
std::int64_t few_rows_columns(std::int64_t columns, std::int64_t threads) {
  return std::clamp<std::int64_t>(columns / (4 * threads), 32, 128);
}

// Columns of out from `first` on.
template <class X, class T>
void run_few_rows(const LinearForward& op, const DenseRows<X>& x, const DenseRows<T>& weight,
                  std::int64_t first) {
  const Tile tile{.row = 0,
                  .column = first,
                  .rows = x.count,
                  .columns = weight.count,
                  .values = ThreadScratch::floats(x.count * weight.count),
                  .stride = weight.count};
  dot_products(x, weight, {tile.values, tile.stride});
  finish_forward<T>(op, tile);
}

const float* widened(const Tensor& x, Scratch& scratch) {
  float* const values = scratch.floats(x.count());
#pragma omp simd
  for (std::int64_t i = 0; i < x.count(); ++i) values[i] = to_float(x.as<Bf16>()[i]);
  return values;
}

// In fp32 the tile is d_x.
template <class T>
LATHE_ALSO_AVX512 void finish_d_x(const LinearBackward& op, const Tile& tile) {
  for (std::int64_t r = 0; r < tile.rows; ++r) {
    const float* values = tile.at(r);
    T* d_x = row_of<T>(op.d_x, tile, r);
    if (!op.pre_gelu.empty()) {
      const T* pre_gelu = row_of<T>(op.pre_gelu, tile, r);
#pragma omp simd
      for (std::int64_t c = 0; c < tile.columns; ++c) {
        d_x[c] = from_float<T>(values[c] * gelu_derivative(to_float(pre_gelu[c])));
      }
    } else if constexpr (std::is_same_v<T, Bf16>) {
      store(d_x, values, tile.columns);
    }
  }
}

// Columns whose sums one task makes, row after row.
constexpr std::int64_t kBiasColumns = 64;

template <class T>
void add_up_columns(const LinearBackward& op, std::int64_t first) {
  const std::int64_t O = op.d_out.size(1);
  const std::int64_t count = std::min(kBiasColumns, O - first);
  float sums[kBiasColumns] = {};
  for (std::int64_t r = 0; r < op.d_out.size(0); ++r) {
    add(sums, op.d_out.as<T>() + r * O + first, count);
  }
  float* d_bias = op.d_bias.as<float>() + first;
  if (op.accumulate) add(sums, d_bias, count);
  store(d_bias, sums, count);
}

}  // namespace

void CpuBackend::execute(const LinearForward& op) {
  if (op.x.size(0) <= kFewRows) {
    const std::int64_t I = op.x.size(1), O = op.weight.size(0);
    const std::int64_t columns = few_rows_columns(O, threads());
    const auto run = [&]<class X, class T>(const X* x, const T* weight) {
      parallel_for(ceil_div(O, columns), [&](std::int64_t task) {
        const std::int64_t first = task * columns;
        run_few_rows<X, T>(op, {x, op.x.size(0), I},
                           {weight + first * I, std::min(columns, O - first), I}, first);
      });
    };
    const Tensor &x = op.x, &weight = op.weight;
    if (x.type() == DType::fp32) return run(x.as<float>(), weight.as<float>());
    if (best_bf16_instructions() != Bf16Instructions::none) {
      return run(x.as<Bf16>(), weight.as<Bf16>());
    }
    return run(widened(x, few_rows_), weight.as<Bf16>());
  }
  const Product product{.a = {.matrix = op.x, .transposed = false},
                        .b = {.matrix = op.weight, .transposed = true},
                        .c = {},  // out may hold the residual until the tile is done
                        .accumulate = false};
  matmul_->run(product, [&op](const Tile& tile) {
    op.x.type() == DType::bf16 ? finish_forward<Bf16>(op, tile) : finish_forward<float>(op, tile);
  });
}

void CpuBackend::execute(const LinearBackward& op) {
  const bool bf16 = op.x.type() == DType::bf16;
  if (!op.d_x.empty()) {
    const Product d_x{.a = {.matrix = op.d_out, .transposed = false},
                      .b = {.matrix = op.weight, .transposed = false},
                      .c = bf16 ? Tensor() : op.d_x,
                      .accumulate = false};
    matmul_->run(d_x, [&op, bf16](const Tile& tile) {
      bf16 ? finish_d_x<Bf16>(op, tile) : finish_d_x<float>(op, tile);
    });
  }
  const Product d_weight{.a = {.matrix = op.d_out, .transposed = true},
                         .b = {.matrix = op.x, .transposed = false},
                         .c = op.d_weight,
                         .accumulate = op.accumulate};
  matmul_->run(d_weight, [](const Tile&) {});
  if (!op.d_bias.empty()) {
    const std::int64_t tasks = ceil_div(op.d_bias.size(0), kBiasColumns);
    parallel_for(tasks, [&op, bf16](std::int64_t i) {
      bf16 ? add_up_columns<Bf16>(op, i * kBiasColumns)
           : add_up_columns<float>(op, i * kBiasColumns);
    });
  }
}

}  // namespace lathe
