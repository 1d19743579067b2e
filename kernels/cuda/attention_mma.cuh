// What the tensor-core kernels of attention have in common. A block has some rows of one head, 16
// or 32 of them each of its warps, and walks other rows of that head, which come through two
// buffers in shared memory: while one is worked on the other is filled. Queries walk keys, or keys
// walk queries; either way the scores of rows with rows are row_products, and what becomes of them,
// rounded to bf16, weighs rows in add_weighted_rows. Neither leaves the registers of its warp
// (FlashAttention-2, Dao 2023).
//
// A weight of 0 still multiplies its row: where the diagonal cuts a block, a NaN or an infinity of
// a row makes NaN of sums that do not depend on it, at most kWalked - 1 positions away.
#pragma once

#include "attention_mma.h"
#include "device.cuh"
#include "tensor_core.cuh"

namespace lathe::cuda {

inline constexpr int kMmaWarps = 4;  // of a block
inline constexpr int kMmaThreads = kMmaWarps * kWarp;
inline constexpr int kWalked = 64;  // rows in a buffer
inline constexpr float kLog2E = 1.44269504f;

// Positions and rows fit an int; offsets of elements may not.
struct MmaShape {
  int B, T, H, C;

  dim3 grid(int rows_of_block) const {
    return {grid_of(ceil_div(T, rows_of_block)), static_cast<unsigned>(H),
            static_cast<unsigned>(B)};
  }
};

template <class Op>
MmaShape mma_shape(const Op& op) {
  return {.B = static_cast<int>(op.out.size(0)),
          .T = static_cast<int>(op.out.size(1)),
          .H = static_cast<int>(op.log_sum_exp.size(1)),
          .C = static_cast<int>(op.out.size(2))};
}

// One head's rows of D channels in a tensor with `stride` elements to a position.
template <class E>
struct HeadRows {
  E* first;
  int stride, count;

  __device__ E* at(int t) const { return first + std::int64_t{t} * stride; }
};

// Of the block's head in a (B, T, stride) tensor, whose heads begin `channel` elements into a row.
template <int D, class E>
__device__ HeadRows<E> head_rows(E* tensor, const MmaShape& shape, int stride, int channel) {
  const std::int64_t position = std::int64_t{blockIdx.z} * shape.T;
  return {tensor + position * stride + channel + blockIdx.y * D, stride, shape.T};
}

// Of the block's head in a (B, H, T) tensor.
template <class E>
__device__ E* head_values(E* tensor, const MmaShape& shape) {
  return tensor + (std::int64_t{blockIdx.z} * shape.H + blockIdx.y) * shape.T;
}

// Starts to fill a tile with the rows from `first` on, and with zeros from the head's end on.
template <class Tile>
__device__ void start_copy(Tile& tile, const HeadRows<const Bf16>& from, int first) {
  const int thread = static_cast<int>(threadIdx.x);
  const int thread_row = thread / Tile::kPieces, piece = thread % Tile::kPieces;
  uint4* to = &tile.at(thread_row, piece);  // and so in every eighth row: pieces repeat
#pragma unroll
  for (int i = 0; i < Tile::kRows; i += kMmaThreads / Tile::kPieces) {
    const int row = first + i + thread_row;
    start_copy(to[i * Tile::kPieces], from.at(row) + piece * kPiece, row < from.count);
  }
}

// Calls use(row, buffer) for each block of rows from `first` up to `end`; start(row, buffer) starts
// the copies of one. That of the first has been waited for already.
template <class Start, class Use>
__device__ void walk(int first, int end, const Start& start, const Use& use) {
  int buffer = 0;
  for (int row = first; row < end; row += kWalked) {
    if (row + kWalked < end) start(row + kWalked, 1 - buffer);
    use(row, buffer);
    finish_copies();
    buffer = 1 - buffer;
  }
}

// (Rows, Columns) of fp32 in the registers of a warp. A lane has kLaneRows rows and in each
// kLaneColumns columns; row_of and column_of say where they stand.
template <int Rows, int Columns>
struct WarpSums {
  static constexpr int kLaneRows = Rows / 8, kLaneColumns = Columns / 4;

  SumFragment fragments[Rows / kFragment][Columns / kFragment];

  __device__ float& at(int row, int column) {
    return fragments[row / 2][column / 4].at(row % 2, column % 4);
  }
  __device__ float at(int row, int column) const {
    return fragments[row / 2][column / 4].at(row % 2, column % 4);
  }
  __device__ static int row_of(int row) { return lane_index() / 4 + 8 * row; }
  __device__ static int column_of(int column) {
    return lane_index() % 4 * 2 + column / 2 * 8 + column % 2;
  }

  // Calls visit(value, row, column) for each value of this lane.
  template <class Visit>
  __device__ void each(const Visit& visit) {
#pragma unroll
    for (int column = 0; column < kLaneColumns; ++column) {
#pragma unroll
      for (int row = 0; row < kLaneRows; ++row) visit(at(row, column), row, column);
    }
  }
};

// A warp's rows of a tile as factors of row_products: kept in registers, or read for each product
// where registers are short.
template <int Rows, class Tile>
struct KeptRows {
  LeftFragment fragments[Rows / kFragment][Tile::kColumns / kFragment];

  __device__ KeptRows(const Tile& tile, int first) {
#pragma unroll
    for (int i = 0; i < Rows / kFragment; ++i) {
#pragma unroll
      for (int k = 0; k < Tile::kColumns / kFragment; ++k)
        fragments[i][k] = tile.left(first + i * kFragment, k * kFragment);
    }
  }
  __device__ LeftFragment at(int i, int k) const {
    return fragments[i][k];
  }
};
template <int Rows, class Tile>
struct ReadRows {
  const Tile& tile;
  int first;

  __device__ ReadRows(const Tile& from, int row) : tile(from), first(row) {}
  __device__ LeftFragment at(int i, int k) const {
    return tile.left(first + i * kFragment, k * kFragment);
  }
};

// (i, j): the dot product of the warp's row i and the tile's row first + j.
template <int Columns, int Rows, class Tile, template <int, class> class LeftRows, class LeftTile>
__device__ WarpSums<Rows, Columns> row_products(const LeftRows<Rows, LeftTile>& left,
                                                const Tile& right, int first) {
  WarpSums<Rows, Columns> sums = {};
#pragma unroll
  for (int k = 0; k < Tile::kColumns / kFragment; ++k) {
    LeftFragment rows[Rows / kFragment];
#pragma unroll
    for (int i = 0; i < Rows / kFragment; ++i) rows[i] = left.at(i, k);
#pragma unroll
    for (int j = 0; j < Columns / kFragment; ++j) {
      const RightFragment columns = right.right_transposed(first + j * kFragment, k * kFragment);
#pragma unroll
      for (int i = 0; i < Rows / kFragment; ++i)
        multiply_add(sums.fragments[i][j], rows[i], columns);
    }
  }
  return sums;
}

// Row i of sums += the sum over j of weights (i, j), as bf16, times the tile's row first + j.
template <int Rows, int Columns, class Tile>
__device__ void add_weighted_rows(WarpSums<Rows, Tile::kColumns>& sums,
                                  const WarpSums<Rows, Columns>& weights, const Tile& tile,
                                  int first) {
#pragma unroll
  for (int k = 0; k < Columns / kFragment; ++k) {
    LeftFragment rounded[Rows / kFragment];
#pragma unroll
    for (int i = 0; i < Rows / kFragment; ++i) rounded[i] = narrow(weights.fragments[i][k]);
#pragma unroll
    for (int j = 0; j < Tile::kColumns / kFragment; ++j) {
      const RightFragment rows = tile.right(first + k * kFragment, j * kFragment);
#pragma unroll
      for (int i = 0; i < Rows / kFragment; ++i)
        multiply_add(sums.fragments[i][j], rounded[i], rows);
    }
  }
}

// Rounds a warp's rows and stores them as rows of a head from `first` on, 16 bytes at a time, by
// way of the tile's rows from `staging_row` on, which no other warp uses.
template <int Rows, class Tile>
__device__ void store_rows(const HeadRows<Bf16>& to, int first, Tile& staging, int staging_row,
                           const WarpSums<Rows, Tile::kColumns>& sums) {
  using Matrix = WarpSums<Rows, Tile::kColumns>;
#pragma unroll
  for (int row = 0; row < Matrix::kLaneRows; ++row) {
#pragma unroll
    for (int column = 0; column < Matrix::kLaneColumns; column += 2) {
      uint4& piece = staging.at(staging_row + Matrix::row_of(row), column / 2);
      reinterpret_cast<unsigned*>(&piece)[lane_index() % 4] =
          narrow_pair(sums.at(row, column), sums.at(row, column + 1));
    }
  }
  __syncwarp();
  const int piece = lane_index() % Tile::kPieces;
#pragma unroll
  for (int i = 0; i < Rows; i += kWarp / Tile::kPieces) {
    const int row = i + lane_index() / Tile::kPieces;
    if (first + row < to.count) {
      *reinterpret_cast<uint4*>(to.at(first + row) + piece * kPiece) =
          staging.at(staging_row + row, piece);
    }
  }
}

}  // namespace lathe::cuda
