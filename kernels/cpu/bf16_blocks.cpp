#include "bf16_blocks.h"

#include <algorithm>
#include <cstring>
#include <dnnl.hpp>

#include "intrinsics.h"
#include "wide.h"

#if defined(__x86_64__)

#include <sys/syscall.h>
#include <unistd.h>

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
Bf16Multiplier::Bf16Multiplier() {}
Bf16Multiplier::~Bf16Multiplier() {}
void Bf16Multiplier::product(Bf16Block, Panels, OutBlock, BlockShape) const {}
void Bf16Multiplier::add_product(Bf16Block, Panels, OutBlock, BlockShape) const {}

}  // namespace lathe

#endif
