// Causal attention, backward (Dao 2023, algorithm 2). A task is one head, so its sums have one
// order: for each block of keys it walks the blocks of queries that see them, recomputes their
// probabilities from log_sum_exp, and adds to d_key and d_value of the block and to the d_query of
// the whole head. With P the probabilities and D_i = sum(d_out_i * out_i):
//   d_value = P^T d_out,  dS = P * (d_out value^T - D),  d_query = dS key,  d_key = dS^T query.
#include <cmath>

#include "attention_blocks.h"
#include "cpu_backend.h"
#include "scratch.h"
#include "vector_math.h"
#include "wide.h"

namespace lathe {
namespace {

constexpr std::int64_t kBlock = 64;  // queries and keys of a block

struct KeyBlock {
  RowRange rows;
  float* keys;                           // (kBlock, padded_head_size)
  float *keys_columns, *values_columns;  // (padded_head_size, kBlock)
  float *d_keys, *d_values;              // (kBlock, padded_head_size)
};

struct QueryBlock {
  RowRange rows;
  const float* queries;      // (kBlock, padded_head_size), scaled by 1 / sqrt(head_size)
  const float* d_out;        // (kBlock, padded_head_size)
  float* d_queries;          // (kBlock, padded_head_size), of the scaled queries
  const float* log_sum_exp;  // (kBlock)
  const float* dots;         // (kBlock): D_i
};

// Per pair of blocks, both (kBlock queries, kBlock keys).
struct PairBlock {
  float *probabilities, *d_scores;
};

// Keys of the block that the first `queries` queries of a block see.
std::int64_t visible_keys(const QueryBlock& q, const KeyBlock& k, std::int64_t queries) {
  return std::min(k.rows.count, q.rows.begin + queries - k.rows.begin);
}

// One query's row of a pair of blocks: `columns` were computed, the first `visible` count.
struct ScoreRow {
  float *scores, *d_scores;
  std::int64_t visible, columns;
};

// In: scores s and d_out value^T. Out: p = exp(s - log_sum_exp) and p * (d_out value^T - dot).
LATHE_ALSO_AVX512 void scores_to_gradients(const ScoreRow& row, float log_sum_exp, float dot) {
#pragma omp simd
  for (std::int64_t k = 0; k < row.columns; ++k) {
    const float p = fast_exp(row.scores[k] - log_sum_exp);
    row.d_scores[k] = p * (row.d_scores[k] - dot);
    row.scores[k] = p;
  }
  std::fill(row.scores + row.visible, row.scores + row.columns, 0.0f);
  std::fill(row.d_scores + row.visible, row.d_scores + row.columns, 0.0f);
}

// Makes P and dS of a pair of blocks, as far as keys are visible.
void make_gradients_of_scores(const QueryBlock& q, const KeyBlock& k, const PairBlock& pair,
                              const AttentionShape& shape) {
  const std::int64_t padded = shape.padded_head_size();
  for (std::int64_t strip = 0; strip < q.rows.count; strip += kStrip) {
    const std::int64_t end = std::min(strip + kStrip, q.rows.count);
    const std::int64_t columns = round_up(visible_keys(q, k, end), kColumnStep);
    const BlockShape block{.rows = end - strip, .columns = columns, .depth = shape.head_size()};
    block_product({q.queries + strip * padded, padded, 1}, {k.keys_columns, kBlock},
                  {pair.probabilities + strip * kBlock, kBlock}, block);
    block_product({q.d_out + strip * padded, padded, 1}, {k.values_columns, kBlock},
                  {pair.d_scores + strip * kBlock, kBlock}, block);
    for (std::int64_t i = strip; i < end; ++i) {
      const ScoreRow row{.scores = pair.probabilities + i * kBlock,
                         .d_scores = pair.d_scores + i * kBlock,
                         .visible = visible_keys(q, k, i + 1),
                         .columns = columns};
      scores_to_gradients(row, q.log_sum_exp[i], q.dots[i]);
    }
  }
}

void add_gradients(const QueryBlock& q, const KeyBlock& k, const PairBlock& pair,
                   const AttentionShape& shape) {
  const std::int64_t padded = shape.padded_head_size();
  for (std::int64_t strip = 0; strip < k.rows.count; strip += kStrip) {
    // Queries before the strip's first key do not see it.
    const std::int64_t first = std::max<std::int64_t>(0, k.rows.begin + strip - q.rows.begin);
    const BlockShape block{.rows = std::min(kStrip, k.rows.count - strip),
                           .columns = padded,
                           .depth = q.rows.count - first};
    const std::int64_t at = first * kBlock + strip;
    add_block_product({pair.probabilities + at, 1, kBlock}, {q.d_out + first * padded, padded},
                      {k.d_values + strip * padded, padded}, block);
    add_block_product({pair.d_scores + at, 1, kBlock}, {q.queries + first * padded, padded},
                      {k.d_keys + strip * padded, padded}, block);
  }
  for (std::int64_t strip = 0; strip < q.rows.count; strip += kStrip) {
    const std::int64_t end = std::min(strip + kStrip, q.rows.count);
    add_block_product({pair.d_scores + strip * kBlock, kBlock, 1}, {k.keys, padded},
                      {q.d_queries + strip * padded, padded},
                      {.rows = end - strip, .columns = padded, .depth = visible_keys(q, k, end)});
  }
}

template <class E>
class HeadBackward {
 public:
  HeadBackward(const AttentionBackward& op, const AttentionShape& shape, Head head)
      : op_(op), shape_(shape), head_(head), padded_(shape.padded_head_size()) {
    const std::int64_t block = kBlock * padded_, rows = round_up(shape.T, kBlock);
    next_ = ThreadScratch::floats(5 * block + 2 * kBlock * kBlock + rows * (3 * padded_ + 1));
    for (float** memory :
         {&key_.keys, &key_.keys_columns, &key_.values_columns, &key_.d_keys, &key_.d_values}) {
      *memory = take(block);
    }
    pair_ = {take(kBlock * kBlock), take(kBlock * kBlock)};
    for (float** memory : {&queries_, &d_out_, &d_queries_}) *memory = take(rows * padded_);
    dots_ = take(rows);
  }

  void run() {
    load_rows(input(Part::query), {0, shape_.T}, scale_, queries_);
    load_rows(head_of<E>(op_.d_out, shape_, head_), {0, shape_.T}, 1.0f, d_out_);
    make_dots();
    std::fill_n(d_queries_, shape_.T * padded_, 0.0f);
    for (std::int64_t begin = 0; begin < shape_.T; begin += kBlock) run_keys(block_at(begin));
    store_rows(d_queries_, {0, shape_.T}, scale_, gradient(Part::query));
  }

 private:
  float* take(std::int64_t count) {
    float* taken = next_;
    next_ += count;
    return taken;
  }

  RowRange block_at(std::int64_t begin) const {
    return {begin, std::min(kBlock, shape_.T - begin)};
  }
  HeadRows<E> input(Part part) const { return part_of<E>(op_.qkv, shape_, head_, part); }
  HeadRows<E> gradient(Part part) const { return part_of<E>(op_.d_qkv, shape_, head_, part); }

  void make_dots() {
    const HeadRows<E> d_out = head_of<E>(op_.d_out, shape_, head_);
    const HeadRows<E> out = head_of<E>(op_.out, shape_, head_);
    for (std::int64_t t = 0; t < shape_.T; ++t) {
      const E *d_out_row = d_out.row(t), *out_row = out.row(t);
      float dot = 0;
#pragma omp simd reduction(+ : dot)
      for (std::int64_t d = 0; d < out.size; ++d)
        dot += to_float(d_out_row[d]) * to_float(out_row[d]);
      dots_[t] = dot;
    }
  }

  void run_keys(RowRange rows) {
    load_keys(rows);
    std::fill_n(key_.d_keys, rows.count * padded_, 0.0f);
    std::fill_n(key_.d_values, rows.count * padded_, 0.0f);
    for (std::int64_t begin = rows.begin; begin < shape_.T; begin += kBlock) {
      use_queries(block_at(begin));
      make_gradients_of_scores(query_, key_, pair_, shape_);
      add_gradients(query_, key_, pair_, shape_);
    }
    store_rows(key_.d_keys, rows, 1.0f, gradient(Part::key));
    store_rows(key_.d_values, rows, 1.0f, gradient(Part::value));
  }

  void load_keys(RowRange rows) {
    key_.rows = rows;
    load_rows(input(Part::key), rows, 1.0f, key_.keys);
    // Values are needed as columns only; d_values is free for their rows until it is cleared.
    float* values = key_.d_values;
    load_rows(input(Part::value), rows, 1.0f, values);
    const std::int64_t count = rows.padded_count();
    transpose_block({key_.keys, padded_}, {key_.keys_columns, kBlock}, count, padded_);
    transpose_block({values, padded_}, {key_.values_columns, kBlock}, count, padded_);
  }

  void use_queries(RowRange rows) {
    const std::int64_t at = rows.begin * padded_;
    query_ = {.rows = rows,
              .queries = queries_ + at,
              .d_out = d_out_ + at,
              .d_queries = d_queries_ + at,
              .log_sum_exp = op_.log_sum_exp.as<float>() +
                             (head_.b * shape_.H + head_.h) * shape_.T + rows.begin,
              .dots = dots_ + rows.begin};
  }

  const AttentionBackward& op_;
  const AttentionShape& shape_;
  Head head_;
  std::int64_t padded_;
  float scale_ = 1.0f / std::sqrt(static_cast<float>(shape_.head_size()));
  float* next_;
  KeyBlock key_{};
  QueryBlock query_{};
  PairBlock pair_;
  float *queries_, *d_out_, *d_queries_;  // (T, padded_head_size): see QueryBlock
  float* dots_;                           // (T)
};

}  // namespace

void CpuBackend::execute(const AttentionBackward& op) {
  const AttentionShape shape{
      .B = op.out.size(0), .T = op.out.size(1), .C = op.out.size(2), .H = op.log_sum_exp.size(1)};
  with_compute_type(op.out.type(), [&]<class E>(std::type_identity<E>) {
    parallel_for(shape.B * shape.H, [&](std::int64_t task) {
      const Head head{.b = task / shape.H, .h = task % shape.H};
      if (std::is_same_v<E, Bf16> && multiplies_bf16(shape.head_size())) {
        attention_backward_bf16(op, shape, head);
      } else {
        HeadBackward<E>(op, shape, head).run();
      }
    });
  });
}

}  // namespace lathe
