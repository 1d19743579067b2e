// What attention's two passes share: where a head lies in memory, and blocks of its rows as fp32.
#pragma once

#include <algorithm>
#include <cstdint>

#include "block_product.h"
#include "compute_type.h"

namespace lathe {

inline constexpr std::int64_t kBlock = 64;  // queries and keys of a block
inline constexpr std::int64_t kStrip = 16;  // queries handled together inside a block

struct AttentionShape {
  std::int64_t B, T, C, H;

  std::int64_t head_size() const { return C / H; }
  // Columns of a block of rows: the rest after head_size is zero.
  std::int64_t padded_head_size() const { return ceil_div(head_size(), kColumnStep) * kColumnStep; }
  std::int64_t blocks() const { return ceil_div(T, kBlock); }
};

// T rows of one head: row t starts at data + t * stride.
template <class E>
struct HeadRows {
  E* data;
  std::int64_t stride;

  E* row(std::int64_t t) const { return data + t * stride; }
};

enum class Part { query = 0, key = 1, value = 2 };

// One part of one head of sequence b in a (B, T, 3C) tensor.
template <class E>
HeadRows<E> head_of_qkv(const Tensor& qkv, const AttentionShape& shape, std::int64_t b,
                        std::int64_t h, Part part) {
  E* start = qkv.as<E>() + b * shape.T * 3 * shape.C;
  return {start + static_cast<std::int64_t>(part) * shape.C + h * shape.head_size(), 3 * shape.C};
}

// One head of sequence b in a (B, T, C) tensor.
template <class E>
HeadRows<E> head_of(const Tensor& x, const AttentionShape& shape, std::int64_t b, std::int64_t h) {
  return {x.as<E>() + b * shape.T * shape.C + h * shape.head_size(), shape.C};
}

// A run of rows of a head.
struct RowRange {
  std::int64_t begin, count;
};

// to (count, padded_head_size) = scale * rows.
template <class E>
void load_rows(const HeadRows<E>& from, RowRange rows, const AttentionShape& shape, float scale,
               float* to) {
  const std::int64_t D = shape.head_size(), padded = shape.padded_head_size();
  for (std::int64_t r = 0; r < rows.count; ++r) {
    const E* row = from.row(rows.begin + r);
#pragma omp simd
    for (std::int64_t d = 0; d < D; ++d) to[r * padded + d] = scale * to_float(row[d]);
    std::fill(to + r * padded + D, to + (r + 1) * padded, 0.0f);
  }
}

// to (head_size, kBlock) = scale * rows^T; columns past the last row are zero.
template <class E>
void load_columns(const HeadRows<E>& from, RowRange rows, const AttentionShape& shape, float scale,
                  float* to) {
  const std::int64_t D = shape.head_size();
  if (rows.count < kBlock) std::fill(to, to + D * kBlock, 0.0f);
  for (std::int64_t r = 0; r < rows.count; ++r) {
    const E* row = from.row(rows.begin + r);
    for (std::int64_t d = 0; d < D; ++d) to[d * kBlock + r] = scale * to_float(row[d]);
  }
}

// rows = scale * from (count, padded_head_size).
template <class E>
void store_rows(const float* from, RowRange rows, const AttentionShape& shape, float scale,
                const HeadRows<E>& to) {
  const std::int64_t D = shape.head_size(), padded = shape.padded_head_size();
  for (std::int64_t r = 0; r < rows.count; ++r) {
    E* row = to.row(rows.begin + r);
#pragma omp simd
    for (std::int64_t d = 0; d < D; ++d) row[d] = from_float<E>(scale * from[r * padded + d]);
  }
}

}  // namespace lathe
