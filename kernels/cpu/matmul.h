// Products of row-major matrices with fp32 accumulation, cut into a grid of tiles over the result.
// Every tile is computed by one thread, and the grid follows from sizes and types alone wherever
// bits depend on it, so the bits of a result do not depend on the number of threads. (oneDNN called
// for a whole product cuts the work by thread count, and with it the order of its sums.)
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "lathe/tensor.h"
#include "thread_team.h"

namespace lathe {

// A row-major matrix, or the transpose of one.
struct Factor {
  Tensor matrix;  // 2 dimensions, fp32 or bf16
  bool transposed;

  std::int64_t rows() const { return matrix.size(transposed ? 1 : 0); }
  std::int64_t columns() const { return matrix.size(transposed ? 0 : 1); }
};

// a b, with a (M, K) and b (K, N) of one type.
struct Product {
  Factor a, b;
  Tensor c;         // (M, N) fp32, where the tiles are made; empty: in memory of their threads
  bool accumulate;  // add to c

  std::int64_t rows() const { return a.rows(); }
  std::int64_t columns() const { return b.columns(); }
  std::int64_t depth() const { return a.columns(); }
};

// A rectangle of a product.
struct Tile {
  std::int64_t row, column;    // of its first value in the product
  std::int64_t rows, columns;  // of the rectangle
  float* values;
  std::int64_t stride;  // from row to row of values

  float* at(std::int64_t r) const { return values + r * stride; }
};

struct TileShape {
  std::int64_t rows, columns;
  bool operator==(const TileShape&) const = default;
};

// How bf16 factors are multiplied: block by block with AMX (bf16_blocks.h), where columns and depth
// are multiples of what that asks for; by oneDNN; or widened to fp32 block by block, for oneDNN
// emulates bf16 where the processor has none, four times slower, and not at all without AVX-512.
enum class Bf16Products { amx, native, widened };
Bf16Products best_bf16_products();
bool can_multiply_bf16_natively();  // fast or not

class Matmul {
 public:
  explicit Matmul(ThreadTeam& team, Bf16Products bf16_products = best_bf16_products());
  ~Matmul();

  // Calls finish(tile) for every tile, each once, on any thread, while it is in that thread's
  // cache.
  using Finish = std::function<void(const Tile&)>;
  void run(const Product& product, const Finish& finish);
  void run(const Product& product, TileShape shape, const Finish& finish);

  // The shape of a product's tiles unless told otherwise: a function of sizes and type alone; with
  // AMX, where sums are the same in tiles of any shape, of the number of threads, too.
  TileShape default_tile_shape(const Product& product) const;

  // Shapes worth measuring, most promising first; the first is the default.
  std::vector<TileShape> candidate_tile_shapes(const Product& product) const;

 private:
  // What oneDNN compiles a kernel of bf16 factors for.
  struct KernelKey {
    std::int64_t rows, columns, depth, a_stride, b_stride, c_stride;
    bool a_transposed, b_transposed, accumulate;
    auto operator<=>(const KernelKey&) const = default;
  };
  struct Kernel;

  Bf16Products way_of(const Product& product) const;  // of fp32: widened
  static KernelKey key(const Product& product, const Tile& tile);
  // Makes every kernel that the product's tiles need, while no other thread looks.
  void prepare(const Product& product, TileShape shape);
  Tile multiply_natively(const Product& product, Tile tile) const;
  static Tile multiply_floats(const Product& product, Tile tile);
  static Tile multiply_with_amx(const Product& product, Tile tile);

  ThreadTeam& team_;
  Bf16Products bf16_products_;
  std::map<KernelKey, std::unique_ptr<Kernel>> kernels_;
  std::int64_t scratchpad_floats_ = 0;  // the most that any of them asks for
};

}  // namespace lathe
