// Attention of new positions to a cache of earlier ones. A task is one head of one sequence: it
// adds the new keys and values to the cache, then lets its queries attend. A few queries take the
// keys one by one, as the memory delivers them; more of them go in blocks, as in attention.cpp.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "attention_blocks.h"
#include "cpu_backend.h"
#include "few_rows.h"
#include "scratch.h"
#include "vector_math.h"

namespace lathe {
namespace {

// Up to here queries go one by one: a block makes the scores of whole strips of kStrip.
constexpr std::int64_t kFewQueries = 4;

// Rows of one head in the cache, (B, H, S, D).
template <class E>
HeadRows<E> rows_of_cache(const Tensor& cache, Head head) {
  const std::int64_t H = cache.size(1), S = cache.size(2), D = cache.size(3);
  return {cache.as<E>() + (head.b * H + head.h) * S * D, D, D};
}

template <class E>
void append(const HeadRows<E>& to, std::int64_t begin, const HeadRows<E>& from,
            std::int64_t count) {
  for (std::int64_t t = 0; t < count; ++t) {
    std::memcpy(to.row(begin + t), from.row(t), static_cast<std::size_t>(to.size) * sizeof(E));
  }
}

// Asks for rows of a head, as far as there are `count`: each alone would wait for the memory.
template <class E>
void prefetch(const HeadRows<E>& rows, std::int64_t begin, std::int64_t end, std::int64_t count) {
  constexpr std::int64_t kLine = 64 / sizeof(E);
  const E* last = rows.row(std::min(end, count));
  for (const E* line = rows.row(begin); line < last; line += kLine) {
    __builtin_prefetch(line, /*rw=*/0, /*locality=*/2);
  }
}

// Scores of `count` keys become exp(score - highest score); returns their sum.
float to_weights(float* scores, std::int64_t count) {
  float highest = scores[0], sum = 0;
#pragma omp simd reduction(max : highest)
  for (std::int64_t k = 0; k < count; ++k) highest = std::max(highest, scores[k]);
#pragma omp simd reduction(+ : sum)
  for (std::int64_t k = 0; k < count; ++k) {
    scores[k] = fast_exp(scores[k] - highest);
    sum += scores[k];
  }
  return sum;
}

// Scores of a query and `count` keys. Of the keys some are asked for ahead, and of the values all,
// which are needed next.
template <class E>
void make_scores(const HeadForward<E>& head, const float* query, std::int64_t count,
                 float* scores) {
  constexpr std::int64_t kBlock = 16, kAhead = 4 * kBlock;
  const std::int64_t D = head.keys.size;
  prefetch(head.keys, 0, kAhead, count);
  for (std::int64_t k = 0; k < count; k += kBlock) {
    prefetch(head.keys, k + kAhead, k + kAhead + kBlock, count);
    prefetch(head.values, k, k + kBlock, count);
    const std::int64_t keys = std::min(kBlock, count - k);
    dot_products({query, 1, D}, DenseRows<E>{head.keys.row(k), keys, D}, {scores + k, keys});
  }
}

// out += the sum of `count` rows, each times its weight. Four at a time: out is loaded and stored
// once for them.
template <class E>
void add_rows(const HeadRows<E>& rows, const float* weights, std::int64_t count, float* out) {
  std::int64_t k = 0;
  for (; k + 4 <= count; k += 4) {
    const E *a = rows.row(k), *b = rows.row(k + 1), *c = rows.row(k + 2), *d = rows.row(k + 3);
    const float* w = weights + k;
#pragma omp simd
    for (std::int64_t i = 0; i < rows.size; ++i) {
      out[i] = out[i] + w[0] * to_float(a[i]) + w[1] * to_float(b[i]) + w[2] * to_float(c[i]) +
               w[3] * to_float(d[i]);
    }
  }
  for (; k < count; ++k) {
    const E* row = rows.row(k);
#pragma omp simd
    for (std::int64_t i = 0; i < rows.size; ++i) out[i] += weights[k] * to_float(row[i]);
  }
}

// Lets one query attend. `most_keys` is the size of the cache: scratch of the same size in every
// step is allocated once.
template <class E>
void attend_query(const HeadForward<E>& head, std::int64_t row, std::int64_t most_keys) {
  const std::int64_t D = head.queries.size, count = head.first_position + row + 1;
  float* query = ThreadScratch::floats(2 * D + most_keys);
  float* out = query + D;
  float* weights = out + D;
  const float scale = 1.0f / std::sqrt(static_cast<float>(D));
  for (std::int64_t d = 0; d < D; ++d) query[d] = scale * to_float(head.queries.row(row)[d]);
  make_scores(head, query, count, weights);
  const float factor = 1.0f / to_weights(weights, count);
  std::fill_n(out, D, 0.0f);
  add_rows(head.values, weights, count, out);
  for (std::int64_t d = 0; d < D; ++d) head.out.row(row)[d] = from_float<E>(factor * out[d]);
}

template <class E>
void run_head(const AttentionCached& op, const AttentionShape& shape, Head head) {
  const HeadForward<E> operands{.queries = part_of<E>(op.qkv, shape, head, Part::query),
                                .keys = rows_of_cache<E>(op.keys, head),
                                .values = rows_of_cache<E>(op.values, head),
                                .out = head_of<E>(op.out, shape, head),
                                .first_position = op.begin,
                                .log_sum_exp = nullptr};
  append(operands.keys, op.begin, part_of<E>(op.qkv, shape, head, Part::key), shape.T);
  append(operands.values, op.begin, part_of<E>(op.qkv, shape, head, Part::value), shape.T);
  if (shape.T <= kFewQueries) {
    for (std::int64_t t = 0; t < shape.T; ++t) attend_query(operands, t, op.keys.size(2));
    return;
  }
  for (std::int64_t begin = 0; begin < shape.T; begin += kQueries) {
    attend_block(operands, {begin, std::min(kQueries, shape.T - begin)});
  }
}

}  // namespace

void CpuBackend::execute(const AttentionCached& op) {
  const AttentionShape shape{
      .B = op.out.size(0), .T = op.out.size(1), .C = op.out.size(2), .H = op.keys.size(1)};
  with_compute_type(op.out.type(), [&]<class E>(std::type_identity<E>) {
    parallel_for(shape.B * shape.H, [&](std::int64_t task) {
      run_head<E>(op, shape, {.b = task / shape.H, .h = task % shape.H});
    });
  });
}

}  // namespace lathe
