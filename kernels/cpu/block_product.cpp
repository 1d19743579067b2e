#include "block_product.h"

#include <cstring>

#include "wide.h"

namespace lathe {
namespace {

using Float8 = float __attribute__((vector_size(32)));
using Float16 = float __attribute__((vector_size(64)));

// Through a vector of its own: g++ 12 keeps an array in memory that memcpy reaches.
template <class Vector>
[[gnu::always_inline]] inline void load(Vector& vector, const float* from) {
  Vector value;
  std::memcpy(&value, from, sizeof(value));
  vector = value;
}

template <class Vector>
[[gnu::always_inline]] inline void store(float* to, const Vector& vector) {
  const Vector value = vector;
  std::memcpy(to, &value, sizeof(value));
}

// kRows x (kCount vectors) of c in registers.
template <class Isa, int kRows, int kCount, bool kAdd>
[[gnu::always_inline]] inline void tile(LeftBlock a, InBlock b, OutBlock c, std::int64_t depth) {
  using Vector = typename Isa::Vector;
  constexpr int kLanes = Isa::kLanes;
  Vector sums[kRows][kCount] = {};
  if constexpr (kAdd) {
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < kCount; ++v) {
        load(sums[r][v], c.data + r * c.stride + v * kLanes);
      }
    }
  }
  // At least one turn: with none possible, g++ 12 keeps the sums in memory beside the loop.
  std::int64_t k = 0;
  do {
    Vector factors[kCount];
    for (int v = 0; v < kCount; ++v) {
      load(factors[v], b.data + k * b.stride + v * kLanes);
    }
    const float* column = a.data + k * a.column_stride;
    for (int r = 0; r < kRows; ++r) {
      const float element = column[r * a.row_stride];
      for (int v = 0; v < kCount; ++v) sums[r][v] += element * factors[v];
    }
  } while (++k < depth);
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kCount; ++v) {
      store(c.data + r * c.stride + v * kLanes, sums[r][v]);
    }
  }
}

// What the registers of an instruction set hold: kRows x kVectors sums, as many vectors of b, and
// an element of a in all lanes.
constexpr int kVectors = 2;

struct Avx2 {
  using Vector = Float8;
  static constexpr int kLanes = 8, kRows = 6;  // 15 of 16 registers

  template <int kRows, int kCount, bool kAdd>
  static void run(LeftBlock a, InBlock b, OutBlock c, std::int64_t depth) {
    tile<Avx2, kRows, kCount, kAdd>(a, b, c, depth);
  }
};

struct Avx512 {
  using Vector = Float16;
  static constexpr int kLanes = 16, kRows = 8;  // 19 of 32: rows come in multiples of 16

  template <int kRows, int kCount, bool kAdd>
  LATHE_AVX512 static void run(LeftBlock a, InBlock b, OutBlock c, std::int64_t depth) {
    tile<Avx512, kRows, kCount, kAdd>(a, b, c, depth);
  }
};

// The next rows of c, as many as there are up to kRows; returns their number.
template <class Isa, int kRows, bool kAdd>
int row_of_tiles(LeftBlock a, InBlock b, OutBlock c, BlockShape shape) {
  if constexpr (kRows > 1) {
    if (shape.rows < kRows) return row_of_tiles<Isa, kRows - 1, kAdd>(a, b, c, shape);
  }
  constexpr std::int64_t kStep = kVectors * Isa::kLanes;
  std::int64_t column = 0;
  for (; column + kStep <= shape.columns; column += kStep) {
    Isa::template run<kRows, kVectors, kAdd>(a, {b.data + column, b.stride},
                                             {c.data + column, c.stride}, shape.depth);
  }
  if constexpr (kStep > kColumnStep) {
    if (column < shape.columns) {
      Isa::template run<kRows, kColumnStep / Isa::kLanes, kAdd>(
          a, {b.data + column, b.stride}, {c.data + column, c.stride}, shape.depth);
    }
  }
  return kRows;
}

template <class Isa, bool kAdd>
void product(LeftBlock a, InBlock b, OutBlock c, BlockShape shape) {
  while (shape.rows > 0) {
    const int rows = row_of_tiles<Isa, Isa::kRows, kAdd>(a, b, c, shape);
    a.data += rows * a.row_stride;
    c.data += rows * c.stride;
    shape.rows -= rows;
  }
}

template <bool kAdd>
void best_product(LeftBlock a, InBlock b, OutBlock c, BlockShape shape) {
  if (has_avx512()) {
    product<Avx512, kAdd>(a, b, c, shape);
  } else {
    product<Avx2, kAdd>(a, b, c, shape);
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

}  // namespace

void block_product(LeftBlock a, InBlock b, OutBlock c, BlockShape shape) {
  best_product<false>(a, b, c, shape);
}

void add_block_product(LeftBlock a, InBlock b, OutBlock c, BlockShape shape) {
  best_product<true>(a, b, c, shape);
}

void transpose_block(InBlock from, OutBlock to, std::int64_t rows, std::int64_t columns) {
  for (std::int64_t r = 0; r < rows; r += 8) {
    for (std::int64_t c = 0; c < columns; c += 8) {
      Float8 square[8];
      for (int i = 0; i < 8; ++i) {
        load(square[i], from.data + (r + i) * from.stride + c);
      }
      exchange_squares<4>(square);
      exchange_squares<2>(square);
      exchange_squares<1>(square);
      for (int i = 0; i < 8; ++i) {
        store(to.data + (c + i) * to.stride + r, square[i]);
      }
    }
  }
}

}  // namespace lathe
