// Products and transposes of small fp32 matrices that lie in the cache: the inner loops of
// attention.
#pragma once

#include <cstdint>
#include <cstring>

namespace lathe {

// A row-major block: row r starts at data + r * stride.
struct InBlock {
  const float* data;
  std::int64_t stride;
};
struct OutBlock {
  float* data;
  std::int64_t stride;

  operator InBlock() const { return {data, stride}; }
};

// The left factor of a product, read element by element: with the strides exchanged it is the
// transpose.
struct LeftBlock {
  const float* data;
  std::int64_t row_stride, column_stride;
};

struct BlockShape {
  std::int64_t rows, columns;  // of c; columns is a multiple of kColumnStep
  std::int64_t depth;          // of the sums, at least 1
};

inline constexpr std::int64_t kColumnStep = 16;

namespace block_detail {

using Float8 = float __attribute__((vector_size(32)));

inline Float8 load(const float* from) {
  Float8 value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

inline void store(float* to, Float8 value) {
  std::memcpy(to, &value, sizeof(value));
}

// kRows x 16 of c in registers: 2 * kRows sums, two vectors of b and one element of a at a time.
template <int kRows, bool kAdd>
void tile(LeftBlock a, InBlock b, OutBlock c, std::int64_t depth) {
  Float8 sums[kRows][2];
  for (int r = 0; r < kRows; ++r) {
    sums[r][0] = kAdd ? load(c.data + r * c.stride) : Float8{};
    sums[r][1] = kAdd ? load(c.data + r * c.stride + 8) : Float8{};
  }
  // At least one turn: with none possible, g++ 12 keeps the sums in memory beside the loop.
  std::int64_t k = 0;
  do {
    const Float8 b0 = load(b.data + k * b.stride), b1 = load(b.data + k * b.stride + 8);
    const float* column = a.data + k * a.column_stride;
    for (int r = 0; r < kRows; ++r) {
      const float element = column[r * a.row_stride];
      sums[r][0] += element * b0;
      sums[r][1] += element * b1;
    }
  } while (++k < depth);
  for (int r = 0; r < kRows; ++r) {
    store(c.data + r * c.stride, sums[r][0]);
    store(c.data + r * c.stride + 8, sums[r][1]);
  }
}

// The next rows of c, as many as there are up to kRows; returns their number.
template <int kRows, bool kAdd>
int row_of_tiles(LeftBlock a, InBlock b, OutBlock c, BlockShape shape) {
  if constexpr (kRows > 1) {
    if (shape.rows < kRows) return row_of_tiles<kRows - 1, kAdd>(a, b, c, shape);
  }
  for (std::int64_t column = 0; column < shape.columns; column += kColumnStep) {
    tile<kRows, kAdd>(a, {b.data + column, b.stride}, {c.data + column, c.stride}, shape.depth);
  }
  return kRows;
}

template <bool kAdd>
void product(LeftBlock a, InBlock b, OutBlock c, BlockShape shape) {
  constexpr int kRows = 6;  // 12 sums, 2 vectors of b, 1 element of a: 15 of 16 registers
  while (shape.rows > 0) {
    const int rows = row_of_tiles<kRows, kAdd>(a, b, c, shape);
    a.data += rows * a.row_stride;
    c.data += rows * c.stride;
    shape.rows -= rows;
  }
}

// Exchanges the off-diagonal kSize x kSize squares of every 2 kSize x 2 kSize square of an 8 x 8
// matrix. For kSize 4, 2 and 1 in turn this is its transpose.
template <int kSize>
inline void exchange_squares(Float8 (&rows)[8]) {
  constexpr auto low = [](int i) { return i & kSize ? 8 + i - kSize : i; };
  constexpr auto high = [](int i) { return i & kSize ? 8 + i : i + kSize; };
  for (int i = 0; i < 8; ++i) {
    if (i & kSize) continue;
    const Float8 a = rows[i], b = rows[i + kSize];
    rows[i] = __builtin_shufflevector(a, b, low(0), low(1), low(2), low(3), low(4), low(5), low(6),
                                      low(7));
    rows[i + kSize] = __builtin_shufflevector(a, b, high(0), high(1), high(2), high(3), high(4),
                                              high(5), high(6), high(7));
  }
}

}  // namespace block_detail

// c = a b
inline void block_product(LeftBlock a, InBlock b, OutBlock c, BlockShape shape) {
  block_detail::product<false>(a, b, c, shape);
}

// c += a b
inline void add_block_product(LeftBlock a, InBlock b, OutBlock c, BlockShape shape) {
  block_detail::product<true>(a, b, c, shape);
}

// to (columns, rows) = from^T with from (rows, columns); both are multiples of 8.
inline void transpose_block(InBlock from, OutBlock to, std::int64_t rows, std::int64_t columns) {
  for (std::int64_t r = 0; r < rows; r += 8) {
    for (std::int64_t c = 0; c < columns; c += 8) {
      block_detail::Float8 square[8];
      for (int i = 0; i < 8; ++i) {
        square[i] = block_detail::load(from.data + (r + i) * from.stride + c);
      }
      block_detail::exchange_squares<4>(square);
      block_detail::exchange_squares<2>(square);
      block_detail::exchange_squares<1>(square);
      for (int i = 0; i < 8; ++i) {
        block_detail::store(to.data + (c + i) * to.stride + r, square[i]);
      }
    }
  }
}

}  // namespace lathe
