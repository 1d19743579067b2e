// Linear layers: three matrix products, each finished tile by tile while the tile is in cache. The
// finish works on the fp32 accumulator and rounds to the compute type once, at its end.
#include "cpu_backend.h"
#include "gelu.h"
#include "matmul.h"

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

template <class T>
void finish_forward(const LinearForward& op, const Tile& tile) {
  for (std::int64_t r = 0; r < tile.rows; ++r) {
    float* values = tile.at(r);
    if (!op.bias.empty()) add(values, op.bias.as<T>() + tile.column, tile.columns);
    if (!op.residual.empty()) add(values, row_of<T>(op.residual, tile, r), tile.columns);
    if (!op.pre_gelu.empty()) {
      store(row_of<T>(op.pre_gelu, tile, r), values, tile.columns);
#pragma omp simd
      for (std::int64_t c = 0; c < tile.columns; ++c) values[c] = gelu(values[c]);
    }
    store(row_of<T>(op.out, tile, r), values, tile.columns);
  }
}

template <class T>
void finish_d_x(const LinearBackward& op, const Tile& tile) {
  for (std::int64_t r = 0; r < tile.rows; ++r) {
    float* values = tile.at(r);
    if (!op.pre_gelu.empty()) {
      const T* pre_gelu = row_of<T>(op.pre_gelu, tile, r);
#pragma omp simd
      for (std::int64_t c = 0; c < tile.columns; ++c) {
        values[c] *= gelu_derivative(to_float(pre_gelu[c]));
      }
    }
    store(row_of<T>(op.d_x, tile, r), values, tile.columns);
  }
}

void finish_d_weight(const LinearBackward& op, const Tile& tile) {
  for (std::int64_t r = 0; r < tile.rows; ++r) {
    float* d_weight = row_of<float>(op.d_weight, tile, r);
    if (op.accumulate) {
      add(tile.at(r), d_weight, tile.columns);
    }
    store(d_weight, tile.at(r), tile.columns);
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
  const Product product{.a = {.matrix = op.x, .transposed = false},
                        .b = {.matrix = op.weight, .transposed = true}};
  matmul_->run(product, [&op](const Tile& tile) {
    op.x.type() == DType::bf16 ? finish_forward<Bf16>(op, tile) : finish_forward<float>(op, tile);
  });
}

void CpuBackend::execute(const LinearBackward& op) {
  const bool bf16 = op.x.type() == DType::bf16;
  if (!op.d_x.empty()) {
    const Product product{.a = {.matrix = op.d_out, .transposed = false},
                          .b = {.matrix = op.weight, .transposed = false}};
    matmul_->run(product, [&op, bf16](const Tile& tile) {
      bf16 ? finish_d_x<Bf16>(op, tile) : finish_d_x<float>(op, tile);
    });
  }
  const Product product{.a = {.matrix = op.d_out, .transposed = true},
                        .b = {.matrix = op.x, .transposed = false}};
  matmul_->run(product, [&op](const Tile& tile) { finish_d_weight(op, tile); });
  if (!op.d_bias.empty()) {
    const std::int64_t tasks = (op.d_bias.size(0) + kBiasColumns - 1) / kBiasColumns;
    parallel_for(tasks, [&op, bf16](std::int64_t i) {
      bf16 ? add_up_columns<Bf16>(op, i * kBiasColumns)
           : add_up_columns<float>(op, i * kBiasColumns);
    });
  }
}

}  // namespace lathe
