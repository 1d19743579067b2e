#include <algorithm>
#include <cstring>

#include "bf16_blocks.h"
#include "compute_type.h"
#include "intrinsics.h"
#include "wide.h"

namespace lathe {

std::int64_t panels_size(std::int64_t depth, std::int64_t columns) {
  return ceil_div(depth, kPanelDepth) * kPanelDepth * ceil_div(columns, kPanelColumns) *
         kPanelColumns;
}

#if defined(__x86_64__)

namespace {

// 16 rows of 16 pairs each, from row to row.
using Square = __m512i[16];

// Exchanges rows and columns of the pairs.
LATHE_BF16 void transpose_square(Square& rows) {
  Square pairs;
  for (int i = 0; i < 16; i += 2) {
    pairs[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
    pairs[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
  }
  Square fours;  // 4 x 4 squares that are transposed
  for (int i = 0; i < 16; i += 4) {
    fours[i] = _mm512_unpacklo_epi64(pairs[i], pairs[i + 2]);
    fours[i + 1] = _mm512_unpackhi_epi64(pairs[i], pairs[i + 2]);
    fours[i + 2] = _mm512_unpacklo_epi64(pairs[i + 1], pairs[i + 3]);
    fours[i + 3] = _mm512_unpackhi_epi64(pairs[i + 1], pairs[i + 3]);
  }
  constexpr int kEven = 0x88, kOdd = 0xdd;  // quarters 0 and 2, 1 and 3 of both
  for (int i = 0; i < 4; ++i) {
    const __m512i even_low = _mm512_shuffle_i32x4(fours[i], fours[i + 4], kEven);
    const __m512i odd_low = _mm512_shuffle_i32x4(fours[i], fours[i + 4], kOdd);
    const __m512i even_high = _mm512_shuffle_i32x4(fours[i + 8], fours[i + 12], kEven);
    const __m512i odd_high = _mm512_shuffle_i32x4(fours[i + 8], fours[i + 12], kOdd);
    rows[i] = _mm512_shuffle_i32x4(even_low, even_high, kEven);
    rows[i + 4] = _mm512_shuffle_i32x4(odd_low, odd_high, kEven);
    rows[i + 8] = _mm512_shuffle_i32x4(even_low, even_high, kOdd);
    rows[i + 12] = _mm512_shuffle_i32x4(odd_low, odd_high, kOdd);
  }
}

// Which of two vectors' values go side by side: 16 from `first` on with 16 from `second` on.
struct alignas(64) Order {
  std::uint16_t of[32];
};

constexpr Order side_by_side(int first, int second) {
  Order order{};
  for (int i = 0; i < 16; ++i) {
    order.of[2 * i] = static_cast<std::uint16_t>(first + i);
    order.of[2 * i + 1] = static_cast<std::uint16_t>(second + i);
  }
  return order;
}

constexpr Order kLowerHalves = side_by_side(0, 32), kUpperHalves = side_by_side(16, 48);

// The lowest `count` bits.
std::uint32_t mask_of(std::int64_t count) {
  return static_cast<std::uint32_t>((std::uint64_t{1} << count) - 1);
}

// The part of a block from (row, column) on: up to 16 rows of up to 32 values, zeros beside them.
LATHE_BF16 void load_rows(Bf16Block from, MatrixSize size, std::int64_t row, std::int64_t column,
                          Square& square) {
  const __mmask32 mask = mask_of(std::min<std::int64_t>(size.columns - column, 32));
  for (std::int64_t i = 0; i < 16; ++i) {
    const Bf16* values = from.data + (row + i) * from.stride + column;
    square[i] =
        row + i < size.rows ? _mm512_maskz_loadu_epi16(mask, values) : _mm512_setzero_si512();
  }
}

// Up to 16 values of each of the rows `row` and `row` + 1, in pairs.
LATHE_BF16 __m512i load_pairs(Bf16Block from, MatrixSize size, std::int64_t row,
                              std::int64_t column) {
  const auto mask =
      static_cast<__mmask16>(mask_of(std::min<std::int64_t>(size.columns - column, 16)));
  const auto load = [&](std::int64_t r) LATHE_BF16 {
    if (r >= size.rows) return _mm512_setzero_si512();
    return _mm512_cvtepu16_epi32(
        _mm256_maskz_loadu_epi16(mask, from.data + r * from.stride + column));
  };
  return _mm512_or_si512(load(row), _mm512_slli_epi32(load(row + 1), 16));
}

}  // namespace

// Two panels at a time: a cache line of each of two rows.
LATHE_BF16 void pack(Bf16Block from, MatrixSize size, Panels to) {
  const __m512i lower = _mm512_load_si512(kLowerHalves.of);
  const __m512i upper = _mm512_load_si512(kUpperHalves.of);
  for (std::int64_t column = 0; column < size.columns; column += 2 * kPanelColumns) {
    const bool has_second = size.columns - column > kPanelColumns;
    Bf16* const first = to.panel(column);
    Bf16* const second = to.panel(column + kPanelColumns);
    const __mmask32 mask = mask_of(std::min<std::int64_t>(size.columns - column, 32));
    const auto load = [&](std::int64_t row) LATHE_BF16 {
      if (row >= size.rows) return _mm512_setzero_si512();
      return _mm512_maskz_loadu_epi16(mask, from.data + row * from.stride + column);
    };
    for (std::int64_t k = 0; k < to.depth; k += 2) {
      const __m512i row = load(k), next_row = load(k + 1);
      _mm512_store_si512(first + k * kPanelColumns,
                         _mm512_permutex2var_epi16(row, lower, next_row));
      if (!has_second) continue;
      _mm512_store_si512(second + k * kPanelColumns,
                         _mm512_permutex2var_epi16(row, upper, next_row));
    }
  }
}

LATHE_BF16 void pack_transposed(Bf16Block from, MatrixSize size, Panels to) {
  for (std::int64_t column = 0; column < size.rows; column += kPanelColumns) {
    Bf16* const panel = to.panel(column);
    for (std::int64_t k = 0; k < to.depth; k += kPanelDepth) {
      Square square;
      load_rows(from, size, column, k, square);
      transpose_square(square);
      for (int i = 0; i < 16; ++i) {
        _mm512_store_si512(panel + (k + 2 * i) * kPanelColumns, square[i]);
      }
    }
  }
}

LATHE_BF16 void transpose(Bf16Block from, MatrixSize size, Bf16* to, std::int64_t stride) {
  for (std::int64_t row = 0; row < size.columns; row += kPanelColumns) {
    for (std::int64_t k = 0; k < size.rows; k += kPanelDepth) {
      Square square;
      for (int i = 0; i < 16; ++i) square[i] = load_pairs(from, size, k + 2 * i, row);
      transpose_square(square);
      for (int i = 0; i < 16; ++i) _mm512_storeu_si512(to + (row + i) * stride + k, square[i]);
    }
  }
}

LATHE_BF16 void round_rows(InBlock from, MatrixSize size, Bf16* to, std::int64_t stride) {
  for (std::int64_t r = 0; r < size.rows; ++r) {
    for (std::int64_t c = 0; c < size.columns; c += kPanelColumns) {
      const __m256bh rounded = _mm512_cvtneps_pbh(_mm512_loadu_ps(from.data + r * from.stride + c));
      std::memcpy(to + r * stride + c, &rounded, sizeof(rounded));
    }
  }
}

LATHE_BF16 void round_to_panels(InBlock from, MatrixSize size, Panels to) {
  const auto load = [&](std::int64_t r, std::int64_t c) LATHE_BF16 {
    return r < size.rows ? _mm512_loadu_ps(from.data + r * from.stride + c) : _mm512_setzero_ps();
  };
  constexpr Order kHalves = side_by_side(0, 16);
  const __m512i order = _mm512_load_si512(kHalves.of);
  for (std::int64_t c = 0; c < size.columns; c += kPanelColumns) {
    Bf16* const panel = to.panel(c);
    for (std::int64_t k = 0; k < to.depth; k += 2) {
      const __m512bh rows = _mm512_cvtne2ps_pbh(load(k + 1, c), load(k, c));
      _mm512_store_si512(panel + k * kPanelColumns,
                         _mm512_permutexvar_epi16(order, reinterpret_cast<__m512i>(rows)));
    }
  }
}

#else

// Never called: best_bf16_instructions() is none.
void pack(Bf16Block, MatrixSize, Panels) {}
void pack_transposed(Bf16Block, MatrixSize, Panels) {}
void transpose(Bf16Block, MatrixSize, Bf16*, std::int64_t) {}
void round_rows(InBlock, MatrixSize, Bf16*, std::int64_t) {}
void round_to_panels(InBlock, MatrixSize, Panels) {}

#endif

}  // namespace lathe
