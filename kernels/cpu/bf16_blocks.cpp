#include "bf16_blocks.h"

#if defined(__x86_64__)

// g++ 12 finds its own header's undefined values uninitialized.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <dnnl.hpp>

#include "compute_type.h"

// g++ 12 and clang-tidy 14 know both instruction sets, which the rest of the program is not
// compiled for.
#define LATHE_BF16 __attribute__((target("arch=x86-64-v4,avx512bf16")))
#define LATHE_AMX __attribute__((target("arch=x86-64-v4,amx-tile,amx-bf16")))

namespace lathe {
namespace {

// Linux gives the tiles' state, 8 KiB, to processes that ask for it.
bool may_use_tiles() {
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM
  static const bool may = syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  return may;
}

Bf16Instructions find_instructions() {
  switch (dnnl::get_effective_cpu_isa()) {
    case dnnl::cpu_isa::avx512_core_amx:
      return may_use_tiles() ? Bf16Instructions::amx : Bf16Instructions::avx512;
    case dnnl::cpu_isa::avx512_core_bf16:
      return Bf16Instructions::avx512;
    default:
      return Bf16Instructions::none;
  }
}

// --- Panels

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

// --- VDPBF16PS

// kRows x kPanelColumns of c in registers.
template <int kRows, bool kAdd>
LATHE_BF16 void tile(Bf16Block a, const Bf16* panel, OutBlock c, std::int64_t depth) {
  __m512 sums[kRows];
  for (int r = 0; r < kRows; ++r) {
    sums[r] = kAdd ? _mm512_loadu_ps(c.data + r * c.stride) : _mm512_setzero_ps();
  }
  for (std::int64_t k = 0; k < depth; k += 2) {
    const auto pairs = reinterpret_cast<__m512bh>(_mm512_load_si512(panel + k * kPanelColumns));
    for (int r = 0; r < kRows; ++r) {
      int pair;
      std::memcpy(&pair, a.data + r * a.stride + k, sizeof(pair));
      sums[r] =
          _mm512_dpbf16_ps(sums[r], reinterpret_cast<__m512bh>(_mm512_set1_epi32(pair)), pairs);
    }
  }
  for (int r = 0; r < kRows; ++r) _mm512_storeu_ps(c.data + r * c.stride, sums[r]);
}

// As many rows of c as there are, up to kRows; returns their number.
template <int kRows, bool kAdd>
LATHE_BF16 std::int64_t rows_of_tiles(Bf16Block a, Panels b, OutBlock c, BlockShape shape) {
  if constexpr (kRows > 1) {
    if (shape.rows < kRows) return rows_of_tiles<kRows / 2, kAdd>(a, b, c, shape);
  }
  for (std::int64_t column = 0; column < shape.columns; column += kPanelColumns) {
    tile<kRows, kAdd>(a, b.panel(column), {c.data + column, c.stride}, shape.depth);
  }
  return kRows;
}

template <bool kAdd>
LATHE_BF16 void product_avx512(Bf16Block a, Panels b, OutBlock c, BlockShape shape) {
  while (shape.rows > 0) {
    const std::int64_t rows = rows_of_tiles<16, kAdd>(a, b, c, shape);
    a.data += rows * a.stride;
    c.data += rows * c.stride;
    shape.rows -= rows;
  }
}

// --- AMX

constexpr std::int64_t kTileRows = 16;

// What LDTILECFG reads.
struct alignas(64) TileConfig {
  std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
  std::uint16_t row_bytes[16] = {};
  std::uint8_t rows[16] = {};
};

// Tiles 0 to 3 are sums, two beside each other and two below; 4 and 5 of a, 6 and 7 of b.
LATHE_AMX void configure_tiles(std::int64_t upper_rows, std::int64_t lower_rows) {
  TileConfig config;
  std::fill_n(config.row_bytes, 8, std::uint16_t{64});
  for (const int upper : {0, 1, 4}) config.rows[upper] = static_cast<std::uint8_t>(upper_rows);
  for (const int lower : {2, 3, 5}) config.rows[lower] = static_cast<std::uint8_t>(lower_rows);
  for (const int right : {6, 7}) config.rows[right] = kTileRows;
  asm volatile("" : : "r"(&config) : "memory");  // g++ 12 thinks that 8 bytes of it are read
  _tile_loadconfig(&config);
}

// (1 or 2 tiles) x (1 or 2 panels) of c.
template <bool kTwoDown, bool kTwoAcross, bool kAdd>
LATHE_AMX void tiles(Bf16Block a, const Bf16* panel, OutBlock c, std::int64_t depth) {
  const Bf16* const lower = a.data + kTileRows * a.stride;
  const Bf16* const next_panel = panel + depth * kPanelColumns;
  float* const lower_sums = c.data + kTileRows * c.stride;
  const std::int64_t a_stride = a.stride * 2, c_stride = c.stride * 4;
  if constexpr (kAdd) {
    _tile_loadd(0, c.data, c_stride);
    if constexpr (kTwoAcross) _tile_loadd(1, c.data + kPanelColumns, c_stride);
    if constexpr (kTwoDown) _tile_loadd(2, lower_sums, c_stride);
    if constexpr (kTwoDown && kTwoAcross) _tile_loadd(3, lower_sums + kPanelColumns, c_stride);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    if constexpr (kTwoDown) _tile_zero(2);
    if constexpr (kTwoDown) _tile_zero(3);
  }
  for (std::int64_t k = 0; k < depth; k += kPanelDepth) {
    _tile_loadd(4, a.data + k, a_stride);
    _tile_loadd(6, panel + k * kPanelColumns, 64);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (kTwoAcross) {
      _tile_loadd(7, next_panel + k * kPanelColumns, 64);
      _tile_dpbf16ps(1, 4, 7);
    }
    if constexpr (kTwoDown) {
      _tile_loadd(5, lower + k, a_stride);
      _tile_dpbf16ps(2, 5, 6);
      if constexpr (kTwoAcross) _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_stored(0, c.data, c_stride);
  if constexpr (kTwoAcross) _tile_stored(1, c.data + kPanelColumns, c_stride);
  if constexpr (kTwoDown) _tile_stored(2, lower_sums, c_stride);
  if constexpr (kTwoDown && kTwoAcross) _tile_stored(3, lower_sums + kPanelColumns, c_stride);
}

template <bool kTwoDown, bool kAdd>
LATHE_AMX void columns_of_tiles(Bf16Block a, Panels b, OutBlock c, BlockShape shape) {
  std::int64_t column = 0;
  for (; column + 2 * kPanelColumns <= shape.columns; column += 2 * kPanelColumns) {
    tiles<kTwoDown, true, kAdd>(a, b.panel(column), {c.data + column, c.stride}, shape.depth);
  }
  if (column < shape.columns) {
    tiles<kTwoDown, false, kAdd>(a, b.panel(column), {c.data + column, c.stride}, shape.depth);
  }
}

// Of any number of rows, with the tiles set up for whole ones, which they are again afterwards.
template <bool kAdd>
LATHE_AMX void product_amx(Bf16Block a, Panels b, OutBlock c, BlockShape shape) {
  for (; shape.rows >= 2 * kTileRows; shape.rows -= 2 * kTileRows) {
    columns_of_tiles<true, kAdd>(a, b, c, shape);
    a.data += 2 * kTileRows * a.stride;
    c.data += 2 * kTileRows * c.stride;
  }
  if (shape.rows == 0) return;
  if (shape.rows == kTileRows) return columns_of_tiles<false, kAdd>(a, b, c, shape);
  if (shape.rows > kTileRows) {
    configure_tiles(kTileRows, shape.rows - kTileRows);
    columns_of_tiles<true, kAdd>(a, b, c, shape);
  } else {
    configure_tiles(shape.rows, shape.rows);
    columns_of_tiles<false, kAdd>(a, b, c, shape);
  }
  configure_tiles(kTileRows, kTileRows);
}

LATHE_AMX void release_tiles() {
  _tile_release();
}

}  // namespace

Bf16Instructions best_bf16_instructions() {
  static const Bf16Instructions best = find_instructions();
  return best;
}

std::int64_t panels_size(std::int64_t depth, std::int64_t columns) {
  return ceil_div(depth, kPanelDepth) * kPanelDepth * ceil_div(columns, kPanelColumns) *
         kPanelColumns;
}

LATHE_BF16 void pack(Bf16Block from, MatrixSize size, Panels to) {
  for (std::int64_t column = 0; column < size.columns; column += kPanelColumns) {
    Bf16* const panel = to.panel(column);
    for (std::int64_t k = 0; k < to.depth; k += 2) {
      _mm512_store_si512(panel + k * kPanelColumns, load_pairs(from, size, k, column));
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
  alignas(64) constexpr std::uint16_t kSideBySide[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                                         21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                                         11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  const __m512i order = _mm512_load_si512(kSideBySide);
  for (std::int64_t c = 0; c < size.columns; c += kPanelColumns) {
    Bf16* const panel = to.panel(c);
    for (std::int64_t k = 0; k < to.depth; k += 2) {
      const __m512bh rows = _mm512_cvtne2ps_pbh(load(k + 1, c), load(k, c));
      _mm512_store_si512(panel + k * kPanelColumns,
                         _mm512_permutexvar_epi16(order, reinterpret_cast<__m512i>(rows)));
    }
  }
}

Bf16Multiplier::Bf16Multiplier() {
  if (instructions_ == Bf16Instructions::amx) configure_tiles(kTileRows, kTileRows);
}

Bf16Multiplier::~Bf16Multiplier() {
  if (instructions_ == Bf16Instructions::amx) release_tiles();
}

void Bf16Multiplier::product(Bf16Block a, Panels b, OutBlock c, BlockShape shape) const {
  if (instructions_ == Bf16Instructions::amx) {
    product_amx<false>(a, b, c, shape);
  } else {
    product_avx512<false>(a, b, c, shape);
  }
}

void Bf16Multiplier::add_product(Bf16Block a, Panels b, OutBlock c, BlockShape shape) const {
  if (instructions_ == Bf16Instructions::amx) {
    product_amx<true>(a, b, c, shape);
  } else {
    product_avx512<true>(a, b, c, shape);
  }
}

}  // namespace lathe

#else

namespace lathe {

Bf16Instructions best_bf16_instructions() {
  return Bf16Instructions::none;
}

// Never called, then.
std::int64_t panels_size(std::int64_t, std::int64_t) {
  return 0;
}
void pack(Bf16Block, MatrixSize, Panels) {}
void pack_transposed(Bf16Block, MatrixSize, Panels) {}
void transpose(Bf16Block, MatrixSize, Bf16*, std::int64_t) {}
void round_rows(InBlock, MatrixSize, Bf16*, std::int64_t) {}
void round_to_panels(InBlock, MatrixSize, Panels) {}
Bf16Multiplier::Bf16Multiplier() {}
Bf16Multiplier::~Bf16Multiplier() {}
void Bf16Multiplier::product(Bf16Block, Panels, OutBlock, BlockShape) const {}
void Bf16Multiplier::add_product(Bf16Block, Panels, OutBlock, BlockShape) const {}

}  // namespace lathe

#endif
