// Softmax cross-entropy, one task per row: the row stays in the cache while its maximum, its sum
// of exponentials and its gradient are made. The sum is kept in double over blocks of columns, so
// that its error does not grow with the vocabulary. A NaN or +infinite logit makes the loss NaN.
#include <algorithm>
#include <cmath>
#include <limits>
#include <span>

#include "compute_type.h"
#include "cpu_backend.h"
#include "scratch.h"
#include "vector_math.h"

namespace lathe {
namespace {

constexpr std::int64_t kColumnsPerSum = 1024;

template <class E>
float maximum(const E* x, std::int64_t count) {
  float result = -std::numeric_limits<float>::infinity();
#pragma omp simd reduction(max : result)
  for (std::int64_t i = 0; i < count; ++i) {
    const float value = to_float(x[i]);
    result = value > result ? value : result;
  }
  return result;
}

// exponentials[i] = exp(x[i] - shift); returns their sum.
template <class E>
double exponentials_of(std::span<const E> x, float shift, float* exponentials) {
  const auto count = static_cast<std::int64_t>(x.size());
  double result = 0;
  for (std::int64_t begin = 0; begin < count; begin += kColumnsPerSum) {
    const std::int64_t end = std::min(count, begin + kColumnsPerSum);
    const E* from = x.data();
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (std::int64_t i = begin; i < end; ++i) {
      exponentials[i] = fast_exp(to_float(from[i]) - shift);
      sum += exponentials[i];
    }
    result += sum;
  }
  return result;
}

template <class E>
void cross_entropy_row(const CrossEntropy& op, std::int64_t n) {
  const std::int64_t V = op.vocab, Vp = op.logits.size(1);
  const std::int32_t target = op.targets.as<std::int32_t>()[n];
  const E* logits = op.logits.as<E>() + n * Vp;
  float* exponentials = ThreadScratch::floats(V);
  const float max = maximum(logits, V);
  const double sum =
      exponentials_of(std::span(logits, static_cast<std::size_t>(V)), max, exponentials);
  op.losses.as<float>()[n] =
      static_cast<float>(std::log(sum) + (double{max} - to_float(logits[target])));
  if (op.d_logits.empty()) return;

  E* d_logits = op.d_logits.as<E>() + n * Vp;
  const float factor = static_cast<float>(op.scale / sum);
#pragma omp simd
  for (std::int64_t i = 0; i < V; ++i) d_logits[i] = from_float<E>(exponentials[i] * factor);
  d_logits[target] = from_float<E>(static_cast<float>((exponentials[target] / sum - 1) * op.scale));
  std::fill(d_logits + V, d_logits + Vp, E{});
}

}  // namespace

void CpuBackend::execute(const CrossEntropy& op) {
  with_compute_type(op.logits.type(), [&]<class E>(std::type_identity<E>) {
    parallel_for(op.logits.size(0), [&](std::int64_t n) { cross_entropy_row<E>(op, n); });
  });
}

}  // namespace lathe
