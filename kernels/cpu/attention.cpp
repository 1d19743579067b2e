// Causal attention, forward. A task is one block of queries of one head; it walks the blocks of
// keys up to its own with an online softmax (Milakov & Gimelshein 2018; Dao 2023). Scores of a
// strip of queries stand transposed, (keys, queries): maxima and sums over keys are then sums of
// vectors, one lane per query.
#include <cmath>
#include <limits>

#include "attention_blocks.h"
#include "cpu_backend.h"
#include "thread_scratch.h"
#include "vector_math.h"

namespace lathe {
namespace {

// A block of queries on its way through the keys. max and sum are of the scores seen so far; out
// is the sum of exp(score - max) * value.
struct QueryBlock {
  RowRange rows;
  float* queries;  // (head_size, kBlock), scaled by 1 / sqrt(head_size)
  float* out;      // (kBlock, padded_head_size)
  float max[kBlock], sum[kBlock];
};

struct KeyBlock {
  RowRange rows;
  float *keys, *values;  // (kBlock, padded_head_size)
};

// scores (keys, kStrip): those of keys after the query become -infinity. `first_query` is the
// strip's first query less the block's first key.
void mask_later_keys(float* scores, std::int64_t keys, std::int64_t first_query) {
  for (std::int64_t k = std::max<std::int64_t>(first_query + 1, 0); k < keys; ++k) {
    const std::int64_t end = std::min(k - first_query, kStrip);
    std::fill(scores + k * kStrip, scores + k * kStrip + end,
              -std::numeric_limits<float>::infinity());
  }
}

// Turns scores (keys, kStrip) into exp(score - max) under the new max; returns in `rescale` what
// the sums under the old max must be multiplied by.
void update_softmax(float* scores, std::int64_t keys, float* max, float* sum, float* rescale) {
  float new_max[kStrip], block_sum[kStrip] = {};
  std::copy(max, max + kStrip, new_max);
  for (std::int64_t k = 0; k < keys; ++k) {
#pragma omp simd
    for (std::int64_t q = 0; q < kStrip; ++q) {
      const float score = scores[k * kStrip + q];
      new_max[q] = score > new_max[q] ? score : new_max[q];
    }
  }
  for (std::int64_t k = 0; k < keys; ++k) {
#pragma omp simd
    for (std::int64_t q = 0; q < kStrip; ++q) {
      const float e = fast_exp(scores[k * kStrip + q] - new_max[q]);
      scores[k * kStrip + q] = e;
      block_sum[q] += e;
    }
  }
#pragma omp simd
  for (std::int64_t q = 0; q < kStrip; ++q) {
    rescale[q] = fast_exp(max[q] - new_max[q]);
    sum[q] = sum[q] * rescale[q] + block_sum[q];
    max[q] = new_max[q];
  }
}

// Lets queries [strip, strip + kStrip) of the block attend to the keys they may see.
void attend(QueryBlock& q, const KeyBlock& k, std::int64_t strip, const AttentionShape& shape) {
  const std::int64_t padded = shape.padded_head_size();
  const std::int64_t first_query = q.rows.begin + strip - k.rows.begin;
  const std::int64_t keys = std::min(k.rows.count, first_query + kStrip);
  float scores[kBlock * kStrip], rescale[kStrip];
  block_product({k.keys, padded, 1}, q.queries + strip, kBlock, scores, kStrip,
                {.rows = keys, .columns = kStrip, .depth = shape.head_size()});
  mask_later_keys(scores, keys, first_query);
  update_softmax(scores, keys, q.max + strip, q.sum + strip, rescale);

  float* out = q.out + strip * padded;
  for (std::int64_t i = 0; i < kStrip; ++i) {
#pragma omp simd
    for (std::int64_t d = 0; d < padded; ++d) out[i * padded + d] *= rescale[i];
  }
  add_block_product({scores, 1, kStrip}, k.values, padded, out, padded,
                    {.rows = kStrip, .columns = padded, .depth = keys});
}

template <class E>
void forward_task(const AttentionForward& op, const AttentionShape& shape, std::int64_t head,
                  std::int64_t block) {
  const std::int64_t b = head / shape.H, h = head % shape.H, padded = shape.padded_head_size();
  const auto keys = head_of_qkv<E>(op.qkv, shape, b, h, Part::key);
  const auto values = head_of_qkv<E>(op.qkv, shape, b, h, Part::value);
  float* memory = ThreadScratch::floats(4 * kBlock * padded);
  const std::int64_t first = block * kBlock;
  QueryBlock q{.rows = {first, std::min(kBlock, shape.T - first)},
               .queries = memory,
               .out = memory + kBlock * padded,
               .max = {},
               .sum = {}};
  load_columns(head_of_qkv<E>(op.qkv, shape, b, h, Part::query), q.rows, shape,
               1.0f / std::sqrt(static_cast<float>(shape.head_size())), q.queries);
  std::fill(q.out, q.out + kBlock * padded, 0.0f);
  std::fill(q.max, q.max + kBlock, -std::numeric_limits<float>::infinity());

  KeyBlock k{
      .rows = {}, .keys = memory + 2 * kBlock * padded, .values = memory + 3 * kBlock * padded};
  for (std::int64_t key = 0; key <= first; key += kBlock) {
    k.rows = {key, std::min(kBlock, shape.T - key)};
    load_rows(keys, k.rows, shape, 1.0f, k.keys);
    load_rows(values, k.rows, shape, 1.0f, k.values);
    for (std::int64_t strip = 0; strip < q.rows.count; strip += kStrip) attend(q, k, strip, shape);
  }

  float* log_sum_exp = op.log_sum_exp.as<float>() + head * shape.T + first;
  for (std::int64_t i = 0; i < q.rows.count; ++i) {
    log_sum_exp[i] = q.max[i] + std::log(q.sum[i]);
    const float factor = 1.0f / q.sum[i];
#pragma omp simd
    for (std::int64_t d = 0; d < padded; ++d) q.out[i * padded + d] *= factor;
  }
  store_rows(q.out, q.rows, shape, 1.0f, head_of<E>(op.out, shape, b, h));
}

}  // namespace

void CpuBackend::execute(const AttentionForward& op) {
  const AttentionShape shape{
      .B = op.out.size(0), .T = op.out.size(1), .C = op.out.size(2), .H = op.log_sum_exp.size(1)};
  const std::int64_t heads = shape.B * shape.H;
  with_compute_type(op.out.type(), [&]<class E>(std::type_identity<E>) {
    // The last blocks of queries see the most keys: they start first.
    parallel_for(heads * shape.blocks(), [&](std::int64_t task) {
      forward_task<E>(op, shape, task % heads, shape.blocks() - 1 - task / heads);
    });
  });
}

}  // namespace lathe
