// Sums over a whole tensor: chunks whose borders depend on the count alone, each summed in double,
// then added in order.
#include <algorithm>
#include <array>

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

double sum(const float* x, std::int64_t count) {
  double result = 0;
#pragma omp simd reduction(+ : result)
  for (std::int64_t i = 0; i < count; ++i) result += double{x[i]};
  return result;
}

double sum_of_squares(const float* x, std::int64_t count) {
  double result = 0;
#pragma omp simd reduction(+ : result)
  for (std::int64_t i = 0; i < count; ++i) result += double{x[i]} * double{x[i]};
  return result;
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

// Sums are of a few losses: one task.
void CpuBackend::execute(const Sum& op) {
  float& out = op.out.as<float>()[0];
  const double total = sum(op.x.as<float>(), op.x.count());
  out = static_cast<float>(op.accumulate ? out + total : total);
}

}  // namespace lathe
