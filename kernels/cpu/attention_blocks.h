// What attention's two passes share: where a head lies in memory, and blocks of its rows as fp32.
#pragma once

#include <algorithm>
#include <cstdint>

#include "bf16_blocks.h"
#include "block_product.h"
#include "compute_type.h"
#include "lathe/ops.h"

namespace lathe {

inline constexpr std::int64_t kStrip = 16;  // queries handled together inside a block

constexpr std::int64_t round_up(std::int64_t count, std::int64_t step) {
  return ceil_div(count, step) * step;
}

// Length of a row in a block: zeros follow the head's channels.
constexpr std::int64_t padded_row(std::int64_t head_size) {
  return round_up(head_size, kColumnStep);
}

struct AttentionShape {
  std::int64_t B, T, C, H;

  std::int64_t head_size() const { return C / H; }
  std::int64_t padded_head_size() const { return padded_row(head_size()); }
};

// One head of one sequence.
struct Head {
  std::int64_t b, h;
};

// The T rows of a head: row t starts at data + t * stride.
template <class E>
struct HeadRows {
  E* data;
  std::int64_t stride, size;

  E* row(std::int64_t t) const { return data + t * stride; }
  std::int64_t padded_size() const { return padded_row(size); }
};

enum class Part { query = 0, key = 1, value = 2 };

// In a (B, T, 3C) tensor.
template <class E>
HeadRows<E> part_of(const Tensor& qkv, const AttentionShape& shape, Head head, Part part) {
  const std::int64_t row = 3 * shape.C, column = static_cast<std::int64_t>(part) * shape.C;
  return {qkv.as<E>() + head.b * shape.T * row + column + head.h * shape.head_size(), row,
          shape.head_size()};
}

// In a (B, T, C) tensor.
template <class E>
HeadRows<E> head_of(const Tensor& x, const AttentionShape& shape, Head head) {
  return {x.as<E>() + head.b * shape.T * shape.C + head.h * shape.head_size(), shape.C,
          shape.head_size()};
}

// A run of rows of a head. Blocks hold them with zero rows up to a multiple of kStrip.
struct RowRange {
  std::int64_t begin, count;

  std::int64_t padded_count() const { return round_up(count, kStrip); }
};

// What the forward pass of one head works on. Query r stands at position first_position + r, and
// sees keys and values up to there.
template <class E>
struct HeadForward {
  HeadRows<E> queries, keys, values, out;
  std::int64_t first_position;
  float* log_sum_exp;  // one for each query, or nullptr when not wanted
};

inline constexpr std::int64_t kQueries = 128;  // of a block: how often a loaded key is used

// Lets a block of queries, at most kQueries of them, attend (attention.cpp).
template <class E>
void attend_block(const HeadForward<E>& head, RowRange rows);
extern template void attend_block(const HeadForward<float>& head, RowRange rows);
extern template void attend_block(const HeadForward<Bf16>& head, RowRange rows);

// to (padded_count, padded_size) = scale * rows.
template <class E>
void load_rows(const HeadRows<E>& from, RowRange rows, float scale, float* to) {
  const std::int64_t padded = from.padded_size();
  for (std::int64_t r = 0; r < rows.count; ++r) {
    const E* row = from.row(rows.begin + r);
#pragma omp simd
    for (std::int64_t d = 0; d < from.size; ++d) to[r * padded + d] = scale * to_float(row[d]);
    std::fill(to + r * padded + from.size, to + (r + 1) * padded, 0.0f);
  }
  std::fill(to + rows.count * padded, to + rows.padded_count() * padded, 0.0f);
}

// Whether heads are multiplied in bf16 (attention_bf16.cpp, attention_backward_bf16.cpp) rather
// than widened to fp32.
inline bool multiplies_bf16(std::int64_t head_size) {
  return head_size % kPanelDepth == 0 && best_bf16_instructions() != Bf16Instructions::none;
}
void attend_block_bf16(const HeadForward<Bf16>& head, RowRange rows);
void attention_backward_bf16(const AttentionBackward& op, const AttentionShape& shape, Head head);

// rows = scale * from (count, padded_size).
template <class E>
void store_rows(const float* from, RowRange rows, float scale, const HeadRows<E>& to) {
  const std::int64_t padded = to.padded_size();
  for (std::int64_t r = 0; r < rows.count; ++r) {
    E* row = to.row(rows.begin + r);
#pragma omp simd
    for (std::int64_t d = 0; d < to.size; ++d) row[d] = from_float<E>(scale * from[r * padded + d]);
  }
}

}  // namespace lathe
