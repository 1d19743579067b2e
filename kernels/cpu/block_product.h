// Products of small fp32 matrices that lie in the cache: the inner loops of attention.
#pragma once

#include <cstdint>
#include <cstring>

namespace lathe {

// The left factor, read element by element: with the strides exchanged it is a transpose.
struct LeftBlock {
  const float* data;
  std::int64_t row_stride, column_stride;
};

struct BlockShape {
  std::int64_t rows, columns, depth;  // of c: rows x columns; depth is what is summed over
};

// Columns are a multiple of this; pad with zeros.
inline constexpr std::int64_t kColumnStep = 16;

namespace block_product_detail {

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
inline void tile(LeftBlock a, const float* b, std::int64_t b_stride, float* c,
                 std::int64_t c_stride, std::int64_t depth) {
  Float8 sums[kRows][2];
  for (int r = 0; r < kRows; ++r) {
    sums[r][0] = kAdd ? load(c + r * c_stride) : Float8{};
    sums[r][1] = kAdd ? load(c + r * c_stride + 8) : Float8{};
  }
  for (std::int64_t k = 0; k < depth; ++k) {
    const Float8 b0 = load(b + k * b_stride), b1 = load(b + k * b_stride + 8);
    const float* column = a.data + k * a.column_stride;
    for (int r = 0; r < kRows; ++r) {
      const float element = column[r * a.row_stride];
      sums[r][0] += element * b0;
      sums[r][1] += element * b1;
    }
  }
  for (int r = 0; r < kRows; ++r) {
    store(c + r * c_stride, sums[r][0]);
    store(c + r * c_stride + 8, sums[r][1]);
  }
}

template <bool kAdd>
void product(LeftBlock a, const float* b, std::int64_t b_stride, float* c, std::int64_t c_stride,
             BlockShape shape) {
  constexpr int kRows = 4;
  for (std::int64_t column = 0; column < shape.columns; column += kColumnStep) {
    std::int64_t row = 0;
    const auto rows_at = [&](std::int64_t r) {
      return LeftBlock{a.data + r * a.row_stride, a.row_stride, a.column_stride};
    };
    for (; row + kRows <= shape.rows; row += kRows) {
      tile<kRows, kAdd>(rows_at(row), b + column, b_stride, c + row * c_stride + column, c_stride,
                        shape.depth);
    }
    for (; row < shape.rows; ++row) {
      tile<1, kAdd>(rows_at(row), b + column, b_stride, c + row * c_stride + column, c_stride,
                    shape.depth);
    }
  }
}

}  // namespace block_product_detail

// c = a b
inline void block_product(LeftBlock a, const float* b, std::int64_t b_stride, float* c,
                          std::int64_t c_stride, BlockShape shape) {
  block_product_detail::product<false>(a, b, b_stride, c, c_stride, shape);
}

// c += a b
inline void add_block_product(LeftBlock a, const float* b, std::int64_t b_stride, float* c,
                              std::int64_t c_stride, BlockShape shape) {
  block_product_detail::product<true>(a, b, b_stride, c, c_stride, shape);
}

}  // namespace lathe
