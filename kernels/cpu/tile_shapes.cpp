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

// What a tile takes for each element of a factor that it reads, in multiply-adds: fitted to times
// of GPT-2's shapes. With AMX it is packing that counts.
struct ReadingCosts {
  double a, b;
};

ReadingCosts reading_costs(const Product& product) {
  if (product.a.matrix.type() == DType::bf16 && best_bf16_products() == Bf16Products::amx) {
    return {.a = product.a.transposed ? 170.0 : 10.0, .b = product.b.transposed ? 40.0 : 95.0};
  }
  return {.a = product.a.transposed ? 25.0 : 10.0, .b = product.b.transposed ? 25.0 : 10.0};
}

// Calls visit(shape, time) for the shapes in question, with the time that a model gives each. Unit:
// one multiply-add. A tile takes as many as its volume, what it reads, and a fixed amount to begin.
// The tiles are shared by 2, 4 or 8 threads, which weigh alike.
template <class Visit>
void visit_tile_shapes(const Product& product, const Visit& visit) {
  constexpr double kPerTile = 1e5;
  constexpr std::int64_t kMostElements = 384 * 768;  // a tile and its factors stay in cache
  const ReadingCosts costs = reading_costs(product);
  const std::int64_t M = product.rows(), N = product.columns(), K = product.depth();
  for (const std::int64_t rows : {32, 64, 96, 128, 192, 256, 384, 512, 768}) {
    for (const std::int64_t columns : {64, 96, 128, 192, 256, 384, 512, 768}) {
      if (rows * columns > kMostElements) continue;
      const TileShape shape{.rows = even_part(M, rows, 8), .columns = even_part(N, columns, 16)};
      const auto tiles = ceil_div(M, shape.rows) * ceil_div(N, shape.columns);
      const auto r = static_cast<double>(shape.rows), c = static_cast<double>(shape.columns);
      const double tile_time =
          (r * c + costs.a * r + costs.b * c) * static_cast<double>(K) + kPerTile;
      double time = 0;
      for (const std::int64_t threads : {2, 4, 8}) {
        time += static_cast<double>(threads * ceil_div(tiles, threads)) * tile_time;
      }
      visit(shape, time);
    }
  }
}

}  // namespace

TileShape default_tile_shape(const Product& product) {
  TileShape best{};
  double best_time = std::numeric_limits<double>::infinity();
  visit_tile_shapes(product, [&](TileShape shape, double time) {
    if (time < best_time) {
      best_time = time;
      best = shape;
    }
  });
  return best;
}

std::vector<TileShape> candidate_tile_shapes(const Product& product) {
  std::vector<std::pair<double, TileShape>> timed;
  visit_tile_shapes(product, [&](TileShape shape, double time) { timed.push_back({time, shape}); });
  std::stable_sort(timed.begin(), timed.end(),
                   [](const auto& x, const auto& y) { return x.first < y.first; });
  std::vector<TileShape> shapes;
  for (const auto& [time, shape] : timed) {
    if (shapes.empty() || shape != shapes.back()) shapes.push_back(shape);
  }
  return shapes;
}

}  // namespace lathe
