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

// Of the rows after these: each is too short for the processor to see that they follow each other.
inline void prefetch(const void* address) {
  __builtin_prefetch(address);
}

inline float sum(Float8 x) {
  return ((x[0] + x[4]) + (x[2] + x[6])) + ((x[1] + x[5]) + (x[3] + x[7]));
}

// kLeft x kRight sums at once, in registers.
template <int kLeft, int kRight, class E>
void tile(const DenseRows<float>& left, const DenseRows<E>& right, const SumsOfRows& sums) {
  const std::int64_t size = left.size;
  Float8 partial[kLeft][kRight] = {};
  std::int64_t k = 0;
  // Not a loop that may have no turn: with one, g++ 12 keeps the sums in memory beside it.
  if (size >= 8) {
    do {
      Float8 factors[kRight];
      for (int j = 0; j < kRight; ++j) {
        factors[j] = load(right.data + j * size + k);
        prefetch(right.data + (kRight + j) * size + k);
      }
      for (int i = 0; i < kLeft; ++i) {
        const Float8 row = load(left.data + i * size + k);
        for (int j = 0; j < kRight; ++j) partial[i][j] += row * factors[j];
      }
    } while ((k += 8) + 8 <= size);
  }
  for (int i = 0; i < kLeft; ++i) {
    for (int j = 0; j < kRight; ++j) {
      float total = sum(partial[i][j]);
      for (std::int64_t l = k; l < size; ++l) {
        total += left.data[i * size + l] * to_float(right.data[j * size + l]);
      }
      *sums.from(i, j).data = total;
    }
  }
}

// As many left rows at once as there are, up to kLeft, with kRight right ones; returns their
// number.
template <int kLeft, int kRight, class E>
std::int64_t tile_of_rows(const DenseRows<float>& left, const DenseRows<E>& right,
                          const SumsOfRows& sums) {
  if constexpr (kLeft > 1) {
    if (left.count < kLeft) return tile_of_rows<kLeft - 1, kRight>(left, right, sums);
  }
  tile<kLeft, kRight>(left, right, sums);
  return kLeft;
}

}  // namespace few_rows_detail

// All dot products of a left and a right row.
template <class E>
void dot_products(const DenseRows<float>& left, const DenseRows<E>& right, const SumsOfRows& sums) {
  // Eight chains of additions hide the latency of each.
  constexpr int kLeft = 4, kRight = 2;
  std::int64_t j = 0;
  while (j < right.count) {
    const bool pair = right.count - j >= kRight;
    for (std::int64_t i = 0; i < left.count;) {
      using few_rows_detail::tile_of_rows;
      i += pair ? tile_of_rows<kLeft, kRight>(left.from(i), right.from(j), sums.from(i, j))
                : tile_of_rows<kLeft, 1>(left.from(i), right.from(j), sums.from(i, j));
    }
    j += pair ? kRight : 1;
  }
}

}  // namespace lathe
