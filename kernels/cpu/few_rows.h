// Products of a few rows with the transpose of a large matrix, as of a decoding step: the matrix
// comes from memory once and is used as it comes, without being packed or widened first. Each sum
// is added up in the same order whatever else is made with it.
#pragma once

#include <cstdint>

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

// All dot products of a left and a right row. bf16 beside fp32 is widened in registers. Two of bf16
// are for a processor that has instructions for their products: best_bf16_instructions()
// (bf16_blocks.h).
void dot_products(const DenseRows<float>& left, const DenseRows<float>& right,
                  const SumsOfRows& sums);
void dot_products(const DenseRows<float>& left, const DenseRows<Bf16>& right,
                  const SumsOfRows& sums);
void dot_products(const DenseRows<Bf16>& left, const DenseRows<Bf16>& right,
                  const SumsOfRows& sums);

}  // namespace lathe
