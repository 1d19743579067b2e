// How a product is cut into tiles.
#include <algorithm>
#include <limits>

#include "compute_type.h"
#include "matmul.h"

namespace lathe {
namespace {

// The part of `whole` when it is cut evenly into parts of at most `most`, as a multiple of `unit`.
std::int64_t even_part(std::int64_t whole, std::int64_t most, std::int64_t unit) {
  const std::int64_t part = ceil_div(whole, ceil_div(whole, most));
  return std::min(whole, ceil_div(part, unit) * unit);
}

// Fitted to times of GPT-2's shapes. Unit: one multiply-add.
struct TileCosts {
  double left, right;  // for each element of a factor that a tile reads; with AMX: packs
  double begin;        // for each tile
};

TileCosts tile_costs(const Product& product, bool amx) {
  if (amx) {
    return {.left = product.a.transposed ? 150.0 : 70.0,
            .right = product.b.transposed ? 60.0 : 70.0,
            .begin = 4e5};
  }
  return {.left = product.a.transposed ? 25.0 : 10.0,
          .right = product.b.transposed ? 25.0 : 10.0,
          .begin = 1e5};
}

// What stays in a second-level cache with its factors. With AMX sums are read and written again for
// each block of a deep product, and rows of a left factor that is not packed share few sets.
bool fits_cache(const Product& product, bool amx, std::int64_t rows, std::int64_t columns) {
  const bool is_crowded = amx && product.depth() > 512 && !product.a.transposed;
  return is_crowded ? rows <= 512 && rows * columns <= 512 * 384 : rows * columns <= 384 * 768;
}

// By whom tiles are made.
struct Sharing {
  bool amx;
  std::vector<std::int64_t> thread_counts;  // which weigh alike
};

// Where bits depend on the shape of tiles, it must not follow the threads that there are.
Sharing sharing_by(Bf16Products way, int threads) {
  if (way == Bf16Products::amx) return {.amx = true, .thread_counts = {threads}};
  return {.amx = false, .thread_counts = {2, 4, 8}};
}

// Calls visit(shape, time) for the shapes in question, with the time that a model gives each: a
// tile takes its volume, what it reads, and a fixed amount to begin.
template <class Visit>
void visit_tile_shapes(const Product& product, const Sharing& sharing, const Visit& visit) {
  const TileCosts costs = tile_costs(product, sharing.amx);
  const std::int64_t M = product.rows(), N = product.columns(), K = product.depth();
  for (const std::int64_t rows : {32, 64, 96, 128, 192, 256, 384, 512, 768}) {
    for (const std::int64_t columns : {64, 96, 128, 192, 256, 384, 512, 768}) {
      if (!fits_cache(product, sharing.amx, rows, columns)) continue;
      const TileShape shape{.rows = even_part(M, rows, 8), .columns = even_part(N, columns, 16)};
      const auto tiles = ceil_div(M, shape.rows) * ceil_div(N, shape.columns);
      const auto r = static_cast<double>(shape.rows), c = static_cast<double>(shape.columns);
      const double tile_time =
          (r * c + costs.left * r + costs.right * c) * static_cast<double>(K) + costs.begin;
      double time = 0;
      for (const std::int64_t threads : sharing.thread_counts) {
        time += static_cast<double>(threads * ceil_div(tiles, threads)) * tile_time;
      }
      visit(shape, time);
    }
  }
}

}  // namespace

TileShape Matmul::default_tile_shape(const Product& product) const {
  TileShape best{};
  double best_time = std::numeric_limits<double>::infinity();
  visit_tile_shapes(product, sharing_by(way_of(product), team_.threads()),
                    [&](TileShape shape, double time) {
                      if (time < best_time) {
                        best_time = time;
                        best = shape;
                      }
                    });
  return best;
}

std::vector<TileShape> Matmul::candidate_tile_shapes(const Product& product) const {
  std::vector<std::pair<double, TileShape>> timed;
  visit_tile_shapes(product, sharing_by(way_of(product), team_.threads()),
                    [&](TileShape shape, double time) {
                      timed.push_back({time, shape});
                    });
  std::stable_sort(timed.begin(), timed.end(),
                   [](const auto& x, const auto& y) { return x.first < y.first; });
  std::vector<TileShape> shapes;
  for (const auto& [time, shape] : timed) {
    if (shapes.empty() || shape != shapes.back()) shapes.push_back(shape);
  }
  return shapes;
}

}  // namespace lathe
