// Sums over a whole tensor: chunks whose borders depend on the count alone, each summed in double,
// then added in order.
#include <algorithm>
#include <array>
#include <span>

#include "compute_type.h"
#include "cpu_backend.h"

namespace lathe {
namespace {

constexpr std::int64_t kMaxChunks = 1024;
constexpr std::int64_t kMinChunk = 1 << 14;

struct Chunks {
  std::int64_t count, size;
};

Chunks chunks_of(std::int64_t elements) {
  const std::int64_t size = std::max(kMinChunk, ceil_div(elements, kMaxChunks));
  return {.count = ceil_div(elements, size), .size = size};
}

// Four runs side by side: one chain of additions would wait for each to end.
double sum_of_squares(const float* x, std::int64_t count) {
  const std::int64_t run = count / 4;
  double a = 0, b = 0, c = 0, d = 0;
#pragma omp simd reduction(+ : a, b, c, d)
  for (std::int64_t i = 0; i < run; ++i) {
    a += double{x[i]} * double{x[i]};
    b += double{x[run + i]} * double{x[run + i]};
    c += double{x[2 * run + i]} * double{x[2 * run + i]};
    d += double{x[3 * run + i]} * double{x[3 * run + i]};
  }
  for (std::int64_t i = 4 * run; i < count; ++i) d += double{x[i]} * double{x[i]};
  return (a + b) + (c + d);
}

}  // namespace

void CpuBackend::execute(const SumOfSquares& op) {
  const std::int64_t P = op.x.count();
  const Chunks chunks = chunks_of(P);
  std::array<double, kMaxChunks> partial{};
  parallel_for(chunks.count, [&](std::int64_t i) {
    const std::int64_t begin = i * chunks.size;
    partial[static_cast<std::size_t>(i)] =
        sum_of_squares(op.x.as<float>() + begin, std::min(chunks.size, P - begin));
  });
  double total = 0;
  for (const double chunk : partial) total += chunk;
  op.out.as<float>()[0] = static_cast<float>(total);
}

// Of a few losses: one task.
void CpuBackend::execute(const Sum& op) {
  double total = 0;
  for (const float value : std::span(op.x.as<float>(), static_cast<std::size_t>(op.x.count()))) {
    total += value;
  }
  float& out = op.out.as<float>()[0];
  out = static_cast<float>(op.accumulate ? out + total : total);
}

}  // namespace lathe
