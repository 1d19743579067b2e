// Products of a few rows with the transpose of a large matrix, as of a decoding step: the matrix
// comes from memory once and is used as it comes, without being packed or widened first. Each sum
// is added up in the same order whatever else is made with it.
#pragma once

#include <cstdint>
#include <cstring>

#include "lathe/bf16.h"

namespace lathe {

// Rows of `size` values, one after another.
template <class E>
struct DenseRows {
  const E* data;
  std::int64_t count, size;

  DenseRows from(std::int64_t row) const { return {data + row * size, count - row, size}; }
};

// sums[i * stride + j] is that of left row i and right row j.
struct SumsOfRows {
  float* data;
  std::int64_t stride;

  SumsOfRows from(std::int64_t i, std::int64_t j) const { return {data + i * stride + j, stride}; }
};

namespace few_rows_detail {

using Float8 = float __attribute__((vector_size(32)));

inline Float8 load(const float* from) {
  Float8 value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

inline Float8 load(const Bf16* from) {
  float wide[8];
  for (int i = 0; i < 8; ++i) wide[i] = to_float(from[i]);
  return load(wide);
}

inline float sum(Float8 x) {
  const auto halves =
      __builtin_shufflevector(x, x, 0, 1, 2, 3) + __builtin_shufflevector(x, x, 4, 5, 6, 7);
  const auto pairs = halves + __builtin_shufflevector(halves, halves, 2, 3, 0, 1);
  return pairs[0] + pairs[1];
}

// kLeft x kRight sums at once, in registers. `soon`: as many right rows that come next, which are
// brought as far as the second-level cache: for what is to come into the first there are too few
// places to wait in to hide the memory's latency.
template <int kLeft, int kRight, class E>
void tile(const DenseRows<float>& left, const E* right, const E* soon, const SumsOfRows& sums) {
  constexpr std::int64_t kLine = 64 / sizeof(E);
  const std::int64_t size = left.size;
  Float8 partial[kLeft][kRight] = {};
  std::int64_t k = 0;
  // Not a loop that may have no turn: with one, g++ 12 keeps the sums in memory beside it.
  if (size >= kLine) {
    do {
#pragma GCC unroll 2
      for (int j = 0; j < kRight; ++j) {
        __builtin_prefetch(soon + kRight * k + j * kLine, /*rw=*/0, /*locality=*/2);
      }
#pragma GCC unroll 4
      for (std::int64_t l = k; l < k + kLine; l += 8) {
        Float8 factors[kRight];
#pragma GCC unroll 2
        for (int j = 0; j < kRight; ++j) factors[j] = load(right + j * size + l);
#pragma GCC unroll 4
        for (int i = 0; i < kLeft; ++i) {
          const Float8 row = load(left.data + i * size + l);
#pragma GCC unroll 2
          for (int j = 0; j < kRight; ++j) partial[i][j] += row * factors[j];
        }
      }
    } while ((k += kLine) + kLine <= size);
  }
#pragma GCC unroll 4
  for (int i = 0; i < kLeft; ++i) {
#pragma GCC unroll 2
    for (int j = 0; j < kRight; ++j) {
      float total = sum(partial[i][j]);
      for (std::int64_t l = k; l < size; ++l) {
        total += left.data[i * size + l] * to_float(right[j * size + l]);
      }
      *sums.from(i, j).data = total;
    }
  }
}

// As many left rows at once as there are, up to kLeft; returns their number.
template <int kLeft, int kRight, class E>
std::int64_t tile_of_rows(const DenseRows<float>& left, const E* right, const E* soon,
                          const SumsOfRows& sums) {
  if constexpr (kLeft > 1) {
    if (left.count < kLeft) return tile_of_rows<kLeft - 1, kRight>(left, right, soon, sums);
  }
  tile<kLeft, kRight>(left, right, soon, sums);
  return kLeft;
}

// All left rows with kRight right ones.
template <int kRight, class E>
void strip(const DenseRows<float>& left, const E* right, const SumsOfRows& sums) {
  constexpr int kLeft = 4;
  const E* soon = right + kRight * left.size;
  for (std::int64_t i = 0; i < left.count; soon = right) {  // which is there by then
    i += tile_of_rows<kLeft, kRight>(left.from(i), right, soon, sums.from(i, 0));
  }
}

}  // namespace few_rows_detail

// All dot products of a left and a right row. A left row alone takes the right ones one by one, in
// the order that memory delivers fastest; with more, a pair of them saves half of the loads.
template <class E>
void dot_products(const DenseRows<float>& left, const DenseRows<E>& right, const SumsOfRows& sums) {
  const std::int64_t pairs_end = left.count == 1 ? 0 : right.count / 2 * 2;
  std::int64_t j = 0;
  for (; j < pairs_end; j += 2) {
    few_rows_detail::strip<2>(left, right.data + j * right.size, sums.from(0, j));
  }
  for (; j < right.count; ++j) {
    few_rows_detail::strip<1>(left, right.data + j * right.size, sums.from(0, j));
  }
}

}  // namespace lathe
