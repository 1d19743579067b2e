// Products of row-major matrices, c = a b with fp32 accumulation, cut into a grid of tiles over c.
// The grid follows from sizes and types alone and every tile is one single-threaded computation,
// so the bits of c do not depend on the number of threads. (oneDNN called for all of c splits the
// work by thread count, and with it the order of its sums.)
#pragma once

#include <omp.h>

#include <cstdint>
#include <vector>

#include "lathe/backend.h"
#include "lathe/tensor.h"

namespace lathe {

// A row-major matrix, or the transpose of one.
struct Factor {
  Tensor matrix;  // 2 dimensions, fp32 or bf16
  bool transposed;

  std::int64_t rows() const { return matrix.size(transposed ? 1 : 0); }
  std::int64_t columns() const { return matrix.size(transposed ? 0 : 1); }
};

// c = a b, with a (M, K), b (K, N) of one type.
struct Product {
  Factor a, b;

  std::int64_t rows() const { return a.rows(); }
  std::int64_t columns() const { return b.columns(); }
  std::int64_t depth() const { return a.columns(); }
};

// A rectangle of c: its values stand in a buffer of the thread that made it.
struct Tile {
  std::int64_t row, column;    // of the first value in c
  std::int64_t rows, columns;  // of the rectangle
  float* values;               // (rows, columns), dense

  float* at(std::int64_t r) const { return values + r * columns; }
};

struct TileShape {
  std::int64_t rows, columns;
};

// The shape a product's tiles have by default: a function of sizes and type alone.
TileShape default_tile_shape(const Product& product);

class Matmul {
 public:
  explicit Matmul(int threads);

  // Calls finish(tile) for every tile of the product, each once, on any thread, while its values
  // are in that thread's cache: finish turns them into the result and stores it.
  template <class Finish>
  void run(const Product& product, const Finish& finish) {
    run(product, default_tile_shape(product), finish);
  }

  template <class Finish>
  void run(const Product& product, TileShape shape, const Finish& finish) {
    const std::int64_t tile_rows = (product.rows() + shape.rows - 1) / shape.rows;
    const std::int64_t tile_columns = (product.columns() + shape.columns - 1) / shape.columns;
    const OneThreadEach one_thread_each;
#pragma omp parallel for num_threads(threads_) schedule(dynamic)
    for (std::int64_t i = 0; i < tile_rows * tile_columns; ++i) {
      finish(multiply(product, shape, i / tile_columns, i % tile_columns));
    }
  }

 private:
  // Memory of one thread, kept from call to call.
  struct Workspace {
    std::vector<float> tile, a, b;
  };

  // Makes oneDNN use only the calling thread, inside a parallel region and outside.
  class OneThreadEach {
   public:
    OneThreadEach() : before_(omp_get_max_threads()) { omp_set_num_threads(1); }
    ~OneThreadEach() { omp_set_num_threads(before_); }
    OneThreadEach(const OneThreadEach&) = delete;
    OneThreadEach& operator=(const OneThreadEach&) = delete;

   private:
    int before_;
  };

  Tile multiply(const Product& product, TileShape shape, std::int64_t tile_row,
                std::int64_t tile_column);

  int threads_;
  std::vector<Workspace> workspaces_;
};

}  // namespace lathe
