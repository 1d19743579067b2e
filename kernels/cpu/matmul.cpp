#include "matmul.h"

#include <dnnl.h>
#include <fmt/format.h>

#include <algorithm>

#include "lathe/error.h"

namespace lathe {
namespace {

// Columns of a and rows of b that are widened to fp32 at a time.
constexpr std::int64_t kDepthBlock = 512;

// A rectangle of a factor as oneDNN takes it: fp32 memory, and whether to read it transposed.
struct Operand {
  const float* data;
  std::int64_t leading;
  char transposed;
};

// Rows [row, row + rows) and columns [column, column + columns) of the factor.
Operand operand(const Factor& factor, std::int64_t row, std::int64_t column, std::int64_t rows,
                std::int64_t columns, std::vector<float>& widened) {
  if (factor.transposed) {
    std::swap(row, column);
    std::swap(rows, columns);
  }
  const std::int64_t leading = factor.matrix.size(1);
  const char transposed = factor.transposed ? 'T' : 'N';
  if (factor.matrix.type() == DType::fp32) {
    return {factor.matrix.as<float>() + row * leading + column, leading, transposed};
  }
  widened.resize(std::max(widened.size(), static_cast<std::size_t>(rows * columns)));
  for (std::int64_t r = 0; r < rows; ++r) {
    const Bf16* from = factor.matrix.as<Bf16>() + (row + r) * leading + column;
    float* to = widened.data() + r * columns;
#pragma omp simd
    for (std::int64_t c = 0; c < columns; ++c) to[c] = to_float(from[c]);
  }
  return {widened.data(), columns, transposed};
}

}  // namespace

TileShape default_tile_shape(const Product&) {
  return {.rows = 256, .columns = 384};
}

Matmul::Matmul(int threads) : threads_(threads), workspaces_(static_cast<std::size_t>(threads)) {}

Tile Matmul::multiply(const Product& product, TileShape shape, std::int64_t tile_row,
                      std::int64_t tile_column) {
  Workspace& workspace = workspaces_[static_cast<std::size_t>(omp_get_thread_num())];
  Tile tile{.row = tile_row * shape.rows,
            .column = tile_column * shape.columns,
            .rows = std::min(shape.rows, product.rows() - tile_row * shape.rows),
            .columns = std::min(shape.columns, product.columns() - tile_column * shape.columns),
            .values = nullptr};
  workspace.tile.resize(
      std::max(workspace.tile.size(), static_cast<std::size_t>(tile.rows * tile.columns)));
  tile.values = workspace.tile.data();

  const bool widen = product.a.matrix.type() == DType::bf16;
  const std::int64_t block = widen ? kDepthBlock : product.depth();
  for (std::int64_t k = 0; k < product.depth(); k += block) {
    const std::int64_t depth = std::min(block, product.depth() - k);
    const Operand a = operand(product.a, tile.row, k, tile.rows, depth, workspace.a);
    const Operand b = operand(product.b, k, tile.column, depth, tile.columns, workspace.b);
    const dnnl_status_t status =
        dnnl_sgemm(a.transposed, b.transposed, tile.rows, tile.columns, depth, 1.0f, a.data,
                   a.leading, b.data, b.leading, k == 0 ? 0.0f : 1.0f, tile.values, tile.columns);
    if (status != dnnl_success) {
      throw Error(ExitCode::internal,
                  fmt::format("oneDNN sgemm failed with status {}", static_cast<int>(status)));
    }
  }
  return tile;
}

}  // namespace lathe
