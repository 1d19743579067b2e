// Products and transposes of small fp32 matrices that lie in the cache: the inner loops of
// attention.
#pragma once

#include <cstdint>

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

// c = a b. Each sum is added up from its first term to its last, whatever the processor.
void block_product(LeftBlock a, InBlock b, OutBlock c, BlockShape shape);

// c += a b
void add_block_product(LeftBlock a, InBlock b, OutBlock c, BlockShape shape);

// to (columns, rows) = from^T with from (rows, columns); both are multiples of 8.
void transpose_block(InBlock from, OutBlock to, std::int64_t rows, std::int64_t columns);

}  // namespace lathe
