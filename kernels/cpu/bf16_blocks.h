// Products of bf16 blocks that lie in the cache, with fp32 sums, by instructions made for them: the
// tiles of AMX, or VDPBF16PS of AVX-512 (Intel 64 and IA-32 Architectures Software Developer's
// Manual, volume 2). Both take the right factor in pairs of rows; it is packed for them first.
#pragma once

#include <cstdint>

#include "block_product.h"
#include "lathe/bf16.h"

namespace lathe {

enum class Bf16Instructions { none, avx512, amx };

// The best of this processor that ONEDNN_MAX_CPU_ISA allows.
Bf16Instructions best_bf16_instructions();

inline constexpr std::int64_t kPanelColumns = 16;
inline constexpr std::int64_t kPanelDepth = 32;  // depth is a multiple of it

// Row r starts at data + r * stride.
struct Bf16Block {
  const Bf16* data;
  std::int64_t stride;
};

// A right factor (depth, columns). A panel holds kPanelColumns columns: for each pair of rows 2i
// and 2i + 1, column by column, the two values side by side. Zeros fill up the last panel and the
// depth. On a cache line.
struct Panels {
  Bf16* data;
  std::int64_t depth;  // filled up

  Bf16* panel(std::int64_t column) const { return data + column * depth; }
};

// Values in the panels of a (depth, columns) factor.
std::int64_t panels_size(std::int64_t depth, std::int64_t columns);

struct MatrixSize {
  std::int64_t rows, columns;
};

// The panels of a matrix, or of its transpose. `size` is that of the block given; of the panels,
// those that begin at `to` are written.
void pack(Bf16Block from, MatrixSize size, Panels to);
void pack_transposed(Bf16Block from, MatrixSize size, Panels to);

// to (columns, rows) = from^T, a left factor: its rows are filled up with zeros to a multiple of
// kPanelDepth, and so is their number to one of kPanelColumns; `stride` is from row to row of it.
void transpose(Bf16Block from, MatrixSize size, Bf16* to, std::int64_t stride);

// fp32 values rounded, as rows of a left factor or as the panels of a right one. Columns are a
// multiple of kPanelColumns; zeros fill up the panels' depth.
void round_rows(InBlock from, MatrixSize size, Bf16* to, std::int64_t stride);
void round_to_panels(InBlock from, MatrixSize size, Panels to);

// Multiplies on the thread that made it. AMX's tiles are set up as long as one lives: a task has
// one, as that takes as long as ten products of tiles. Needs instructions other than none.
class Bf16Multiplier {
 public:
  Bf16Multiplier();
  ~Bf16Multiplier();
  Bf16Multiplier(const Bf16Multiplier&) = delete;
  Bf16Multiplier& operator=(const Bf16Multiplier&) = delete;

  // c = a b: shape.depth is the panels', shape.columns a multiple of kPanelColumns.
  void product(Bf16Block a, Panels b, OutBlock c, BlockShape shape) const;
  // c += a b
  void add_product(Bf16Block a, Panels b, OutBlock c, BlockShape shape) const;

 private:
  Bf16Instructions instructions_ = best_bf16_instructions();
};

}  // namespace lathe
