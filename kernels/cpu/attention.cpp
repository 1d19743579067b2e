// Causal attention, forward. A task is one block of queries of one head; it walks the blocks of
// keys up to its own with an online softmax (attention_softmax.h).
#include <cmath>
#include <limits>

#include "attention_softmax.h"
#include "cpu_backend.h"
#include "scratch.h"

namespace lathe {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// A block of queries on its way through the keys. max and sum are of the scores seen so far; out
// is the sum of exp(score - max) * value.
struct QueryBlock {
  RowRange rows;
  std::int64_t position;  // of the first query, among the keys
  float* queries;         // per strip (padded_head_size, kStrip), scaled by 1 / sqrt(head_size)
  float* out;             // (kQueries, padded_head_size)
  float max[kQueries], sum[kQueries];
};

struct KeyBlock {
  RowRange rows;
  float *keys, *values;  // (kKeys, padded_head_size)
};

// Lets queries [first, first + kStrip) of the block attend to the keys they may see.
void attend(QueryBlock& q, const KeyBlock& k, std::int64_t first, std::int64_t head_size) {
  const std::int64_t padded = round_up(head_size, kColumnStep);
  ScoreStrip strip;
  strip.first_query = q.position + first - k.rows.begin;
  strip.keys = std::min(k.rows.count, strip.first_query + kStrip);
  strip.scale = 1.0f;  // queries are scaled
  strip.max = q.max + first;
  strip.sum = q.sum + first;
  block_product({k.keys, padded, 1}, {q.queries + first * padded, kStrip}, {strip.scores, kStrip},
                {.rows = strip.keys, .columns = kStrip, .depth = head_size});
  mask_later_keys(strip);
  update_softmax(strip);

  float* out = q.out + first * padded;
  const LeftBlock probabilities{strip.scores, 1, kStrip};
  const BlockShape block{.rows = kStrip, .columns = padded, .depth = strip.keys};
  if (k.rows.begin == 0) {
    block_product(probabilities, {k.values, padded}, {out, padded}, block);
    return;
  }
  for (std::int64_t i = 0; i < kStrip; ++i) {
#pragma omp simd
    for (std::int64_t d = 0; d < padded; ++d) out[i * padded + d] *= strip.rescale[i];
  }
  add_block_product(probabilities, {k.values, padded}, {out, padded}, block);
}

// Divides by the sums: out of the block, and log_sum_exp unless it is nullptr.
void finish(QueryBlock& q, std::int64_t padded, float* log_sum_exp) {
  for (std::int64_t i = 0; i < q.rows.count; ++i) {
    if (log_sum_exp != nullptr) log_sum_exp[i] = q.max[i] + std::log(q.sum[i]);
    const float factor = 1.0f / q.sum[i];
#pragma omp simd
    for (std::int64_t d = 0; d < padded; ++d) q.out[i * padded + d] *= factor;
  }
}

}  // namespace

template <class E>
void attend_block(const HeadForward<E>& head, RowRange rows) {
  if constexpr (std::is_same_v<E, Bf16>) {
    if (multiplies_bf16(head.queries.size)) return attend_block_bf16(head, rows);
  }
  const std::int64_t head_size = head.queries.size, padded = head.queries.padded_size();
  float* memory = ThreadScratch::floats(2 * (kQueries + kKeys) * padded);
  QueryBlock q{.rows = rows,
               .position = head.first_position + rows.begin,
               .queries = memory,
               .out = memory + kQueries * padded,
               .max = {},
               .sum = {}};
  KeyBlock k{.rows = {},
             .keys = memory + 2 * kQueries * padded,
             .values = memory + (2 * kQueries + kKeys) * padded};
  // out is free until the first keys.
  const float scale = 1.0f / std::sqrt(static_cast<float>(head_size));
  load_rows(head.queries, rows, scale, q.out);
  for (std::int64_t first = 0; first < rows.count; first += kStrip) {
    transpose_block({q.out + first * padded, padded}, {q.queries + first * padded, kStrip}, kStrip,
                    padded);
  }
  std::fill_n(q.max, kQueries, -kInfinity);

  const std::int64_t end = q.position + rows.count;
  for (std::int64_t key = 0; key < end; key += kKeys) {
    k.rows = {key, std::min(kKeys, end - key)};
    load_rows(head.keys, k.rows, 1.0f, k.keys);
    load_rows(head.values, k.rows, 1.0f, k.values);
    // The first strip that sees the block's first key.
    const std::int64_t first_query = std::max<std::int64_t>(0, key - q.position);
    for (std::int64_t first = first_query / kStrip * kStrip; first < rows.count; first += kStrip) {
      attend(q, k, first, head_size);
    }
  }
  finish(q, padded, head.log_sum_exp == nullptr ? nullptr : head.log_sum_exp + rows.begin);
  store_rows(q.out, rows, 1.0f, head.out);
}

template void attend_block(const HeadForward<float>& head, RowRange rows);
template void attend_block(const HeadForward<Bf16>& head, RowRange rows);

void CpuBackend::execute(const AttentionForward& op) {
  const AttentionShape shape{
      .B = op.out.size(0), .T = op.out.size(1), .C = op.out.size(2), .H = op.log_sum_exp.size(1)};
  const std::int64_t heads = shape.B * shape.H, blocks = ceil_div(shape.T, kQueries);
  with_compute_type(op.out.type(), [&]<class E>(std::type_identity<E>) {
    parallel_for(heads * blocks, [&](std::int64_t task) {
      const Head head{.b = task % heads / shape.H, .h = task % shape.H};
      // The last blocks of queries see the most keys: they start first.
      const std::int64_t begin = (blocks - 1 - task / heads) * kQueries;
      const HeadForward<E> operands{
          .queries = part_of<E>(op.qkv, shape, head, Part::query),
          .keys = part_of<E>(op.qkv, shape, head, Part::key),
          .values = part_of<E>(op.qkv, shape, head, Part::value),
          .out = head_of<E>(op.out, shape, head),
          .first_position = 0,
          .log_sum_exp = op.log_sum_exp.as<float>() + (head.b * shape.H + head.h) * shape.T};
      attend_block(operands, {begin, std::min(kQueries, shape.T - begin)});
    });
  });
}

}  // namespace lathe
