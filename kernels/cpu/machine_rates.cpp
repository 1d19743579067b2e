#include "lathe/machine_rates.h"

#include <algorithm>
#include <chrono>
#include <limits>

#include "compute_type.h"
#include "lathe/backend.h"
#include "matmul.h"

namespace lathe {
namespace {

constexpr int kMemoryRuns = 5;
constexpr std::int64_t kMemoryFloats = std::int64_t{32} << 20;  // of each array: 128 MiB
constexpr std::int64_t kTaskFloats = std::int64_t{1} << 18;

// A side of the large product: large enough for its factors to be read from cache many times.
constexpr std::int64_t kProductSide = 1536;

constexpr int kScreeningRuns = 2;
constexpr int kFinalRuns = 4;
constexpr std::size_t kScreened = 12;  // tile shapes, the most promising
constexpr std::size_t kFinalists = 3;  // besides the default

template <class Work>
double seconds_of(const Work& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// A matrix with its memory, filled with small numbers: time may depend on zeros and subnormals.
class Operand {
 public:
  Operand(Backend& backend, DType type, std::int64_t rows, std::int64_t columns)
      : buffer_(backend.allocate(rows * columns * size_of(type))),
        matrix_(buffer_.get(), type, {rows, columns}) {
    with_compute_type(type, [&]<class E>(std::type_identity<E>) {
      E* values = matrix_.as<E>();
      for (std::int64_t i = 0; i < matrix_.count(); ++i) {
        values[i] = from_float<E>(static_cast<float>(i % 13 - 6));
      }
    });
  }
  const Tensor& matrix() const { return matrix_; }

 private:
  Buffer buffer_;
  Tensor matrix_;
};

// A product whose result ends in `out`: in place if that is fp32 and not a forward's.
struct Timed {
  Product product;
  Tensor out;
};

double run_once(Matmul& matmul, const Timed& timed, TileShape shape) {
  return seconds_of([&] {
    matmul.run(timed.product, shape, [&timed](const Tile& tile) {
      if (!timed.product.c.empty()) return;
      with_compute_type(timed.out.type(), [&]<class E>(std::type_identity<E>) {
        for (std::int64_t r = 0; r < tile.rows; ++r) {
          E* row = timed.out.as<E>() + (tile.row + r) * timed.out.size(1) + tile.column;
          const float* values = tile.at(r);
          for (std::int64_t c = 0; c < tile.columns; ++c) row[c] = from_float<E>(values[c]);
        }
      });
    });
  });
}

struct ShapeTime {
  TileShape shape;
  double seconds;
};

// Runs every shape in turn, again and again, so that a busy moment of the machine hits all alike.
void improve(std::vector<ShapeTime>& times, int runs, Matmul& matmul, const Timed& timed) {
  for (int run = 0; run < runs; ++run) {
    for (ShapeTime& time : times) {
      time.seconds = std::min(time.seconds, run_once(matmul, timed, time.shape));
    }
  }
}

void add_product(LinearRates& rates, Matmul& matmul, const Timed& timed) {
  std::vector<ShapeTime> times;
  for (const TileShape& shape : matmul.candidate_tile_shapes(timed.product)) {
    if (times.size() == kScreened) break;
    times.push_back({shape, std::numeric_limits<double>::infinity()});
  }
  improve(times, kScreeningRuns, matmul, timed);
  // The default shape is the first and stays; the fastest of the others join it.
  const auto faster = [](const ShapeTime& x, const ShapeTime& y) { return x.seconds < y.seconds; };
  std::sort(times.begin() + 1, times.end(), faster);
  times.resize(std::min(times.size(), kFinalists + 1));
  improve(times, kFinalRuns, matmul, timed);
  rates.default_seconds += times.front().seconds;
  rates.best_seconds += std::min_element(times.begin(), times.end(), faster)->seconds;
  rates.flops += 2.0 * static_cast<double>(timed.product.rows() * timed.product.columns()) *
                 static_cast<double>(timed.product.depth());
}

}  // namespace

MemoryRates measure_memory_rates(int threads) {
  ThreadTeam team(threads);
  const auto backend = make_cpu_backend(1);
  Buffer buffers[3];
  for (Buffer& buffer : buffers) buffer = backend->allocate(kMemoryFloats * 4);
  auto* a = reinterpret_cast<float*>(buffers[0].get());
  auto* b = reinterpret_cast<float*>(buffers[1].get());
  auto* c = reinterpret_cast<float*>(buffers[2].get());
  const auto best_of_runs = [&](double bytes_per_float, const auto& kernel) {
    double best = std::numeric_limits<double>::infinity();
    for (int run = 0; run < kMemoryRuns; ++run) {
      best = std::min(best, seconds_of([&] {
                        team.run(kMemoryFloats / kTaskFloats, [&](std::int64_t task) {
                          kernel(task * kTaskFloats, (task + 1) * kTaskFloats);
                        });
                      }));
    }
    return bytes_per_float * static_cast<double>(kMemoryFloats) / best;
  };
  best_of_runs(12, [=](std::int64_t begin, std::int64_t end) {  // touches every page
    for (std::int64_t i = begin; i < end; ++i) a[i] = b[i] = c[i] = static_cast<float>(i);
  });
  MemoryRates rates;
  rates.copy = best_of_runs(8, [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) a[i] = b[i];
  });
  rates.triad = best_of_runs(12, [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) a[i] = b[i] + 0.5f * c[i];
  });
  return rates;
}

double measure_product_rate(int threads, DType compute) {
  ThreadTeam team(threads);
  Matmul matmul(team);
  const auto backend = make_cpu_backend(1);
  const Operand a(*backend, compute, kProductSide, kProductSide);
  const Operand b(*backend, compute, kProductSide, kProductSide);
  const Operand c(*backend, DType::fp32, kProductSide, kProductSide);
  LinearRates rates{};
  add_product(rates, matmul,
              {.product = {.a = {.matrix = a.matrix(), .transposed = false},
                           .b = {.matrix = b.matrix(), .transposed = false},
                           .c = c.matrix(),
                           .accumulate = false},
               .out = c.matrix()});
  return rates.flops / rates.best_seconds;
}

LinearRates measure_linear(int threads, DType compute, const LinearSize& size) {
  const auto [N, I, O] = size;
  ThreadTeam team(threads);
  Matmul matmul(team);
  const auto backend = make_cpu_backend(1);
  const Operand x(*backend, compute, N, I), weight(*backend, compute, O, I);
  const Operand out(*backend, compute, N, O), d_weight(*backend, DType::fp32, O, I);
  const Tensor in_place = compute == DType::fp32 ? x.matrix() : Tensor();
  LinearRates rates{};
  add_product(rates, matmul,
              {.product = {.a = {.matrix = x.matrix(), .transposed = false},
                           .b = {.matrix = weight.matrix(), .transposed = true},
                           .c = {},
                           .accumulate = false},
               .out = out.matrix()});
  add_product(rates, matmul,
              {.product = {.a = {.matrix = out.matrix(), .transposed = true},
                           .b = {.matrix = x.matrix(), .transposed = false},
                           .c = d_weight.matrix(),
                           .accumulate = false},
               .out = d_weight.matrix()});
  add_product(rates, matmul,  // last: it overwrites x
              {.product = {.a = {.matrix = out.matrix(), .transposed = false},
                           .b = {.matrix = weight.matrix(), .transposed = false},
                           .c = in_place,
                           .accumulate = false},
               .out = x.matrix()});
  return rates;
}

}  // namespace lathe
