// Causal attention, backward, with factors in bf16 (bf16_blocks.h): the walk of
// attention_backward.cpp. Pairs of blocks stand transposed, (keys, queries): P^T and dS^T are then
// left factors as they come, with the rows of d_out and of queries as panels,
//   d_value = P^T d_out,  d_key = dS^T query,
// and the panels of dS^T give d_query transposed: key^T dS^T.
#include <cmath>

#include "attention_blocks.h"
#include "scratch.h"
#include "vector_math.h"
#include "wide.h"

namespace lathe {
namespace {

constexpr std::int64_t kBlock = 64;  // queries and keys of a block
constexpr std::int64_t kKeyRows =
    kPanelDepth;  // keys of a pair of blocks that are handled together

// Queries of a block, as the factors that they are.
struct QueryBlock {
  RowRange rows;
  Panels queries_transposed, d_out_transposed;  // (head_size, kBlock)
  Panels queries, d_out;                        // (kBlock, head_size)
  float* d_queries;                             // transposed: (head_size, kBlock)
  const float *log_sum_exp, *dots;              // (kBlock): see HeadBackward::make_dots
};

struct KeyBlock {
  RowRange rows;
  Bf16Block keys, values;    // (rows.count, head_size)
  Bf16* keys_transposed;     // (head_size, kBlock)
  float *d_keys, *d_values;  // (kBlock, head_size)
};

// Scores of some keys, and d_out value^T, both (keys, kBlock queries).
struct Scores {
  float *scores, *d_probabilities;
  std::int64_t keys;
  std::int64_t first_query;  // that sees the first of the keys; the next key is seen from one later
};

// In: scores s and d_out value^T. Out: p = exp(scale * s - log_sum_exp) and
// p * (d_out value^T - dot).
LATHE_ALSO_AVX512 void scores_to_gradients(const Scores& s, const QueryBlock& q, float scale) {
  for (std::int64_t k = 0; k < s.keys; ++k) {
    float* __restrict scores = s.scores + k * kBlock;
    float* __restrict d_scores = s.d_probabilities + k * kBlock;
#pragma omp simd
    for (std::int64_t i = 0; i < kBlock; ++i) {
      const float p = fast_exp(scale * scores[i] - q.log_sum_exp[i]);
      d_scores[i] = p * (d_scores[i] - q.dots[i]);
      scores[i] = p;
    }
    const std::int64_t hidden = std::clamp<std::int64_t>(s.first_query + k, 0, kBlock);
    std::fill_n(scores, hidden, 0.0f);
    std::fill_n(d_scores, hidden, 0.0f);
  }
}

class HeadBackward {
 public:
  HeadBackward(const AttentionBackward& op, const AttentionShape& shape, Head head)
      : op_(op),
        shape_(shape),
        head_(head),
        D_(shape.head_size()),
        rows_(round_up(shape.T, kBlock)),
        scale_(1.0f / std::sqrt(static_cast<float>(D_))) {
    const std::int64_t all = rows_ * D_, block = kBlock * D_, square = kBlock * kBlock;
    next_ = ThreadScratch::floats(all + 2 * rows_ + 2 * block + 2 * kKeyRows * kBlock +
                                  (4 * all + block + 3 * square) / 2);
    d_queries_ = take(all);
    key_.d_keys = take(block);
    key_.d_values = take(block);
    log_sum_exp_ = take(rows_);
    dots_ = take(rows_);
    scores_ = take(kKeyRows * kBlock);
    d_probabilities_ = take(kKeyRows * kBlock);
    for (Bf16** values : {&queries_transposed_, &d_out_transposed_, &queries_, &d_out_}) {
      *values = take_bf16(all);
    }
    key_.keys_transposed = take_bf16(block);
    for (Bf16** values : {&probabilities_, &d_scores_, &d_scores_panels_}) {
      *values = take_bf16(square);
    }
  }

  void run() {
    make_dots();
    std::fill_n(d_queries_, rows_ * D_, 0.0f);
    for (std::int64_t begin = 0; begin < shape_.T; begin += kBlock) pack_queries(block_at(begin));
    for (std::int64_t begin = 0; begin < shape_.T; begin += kBlock) run_keys(block_at(begin));
    for (std::int64_t begin = 0; begin < shape_.T; begin += kBlock) store_queries(block_at(begin));
  }

 private:
  float* take(std::int64_t count) {
    float* taken = next_;
    next_ += count;
    return taken;
  }
  Bf16* take_bf16(std::int64_t count) { return reinterpret_cast<Bf16*>(take(count / 2)); }

  RowRange block_at(std::int64_t begin) const {
    return {begin, std::min(kBlock, shape_.T - begin)};
  }
  Bf16Block input(Part part, std::int64_t row) const {
    const HeadRows<Bf16> rows = part_of<Bf16>(op_.qkv, shape_, head_, part);
    return {rows.row(row), rows.stride};
  }
  HeadRows<Bf16> gradient(Part part) const { return part_of<Bf16>(op_.d_qkv, shape_, head_, part); }

  // Copies log_sum_exp and makes D_i = sum(d_out_i * out_i), with zeros behind the last query.
  void make_dots() {
    const HeadRows<Bf16> d_out = head_of<Bf16>(op_.d_out, shape_, head_);
    const HeadRows<Bf16> out = head_of<Bf16>(op_.out, shape_, head_);
    const float* log_sum_exp =
        op_.log_sum_exp.as<float>() + (head_.b * shape_.H + head_.h) * shape_.T;
    std::fill_n(log_sum_exp_, rows_, 0.0f);
    std::fill_n(dots_, rows_, 0.0f);
    std::copy_n(log_sum_exp, shape_.T, log_sum_exp_);
    for (std::int64_t t = 0; t < shape_.T; ++t) {
      const Bf16 *d_out_row = d_out.row(t), *out_row = out.row(t);
      float dot = 0;
#pragma omp simd reduction(+ : dot)
      for (std::int64_t d = 0; d < D_; ++d) dot += to_float(d_out_row[d]) * to_float(out_row[d]);
      dots_[t] = dot;
    }
  }

  QueryBlock query_block(RowRange rows) const {
    const std::int64_t at = rows.begin * D_;
    return {.rows = rows,
            .queries_transposed = {queries_transposed_ + at, D_},
            .d_out_transposed = {d_out_transposed_ + at, D_},
            .queries = {queries_ + at, kBlock},
            .d_out = {d_out_ + at, kBlock},
            .d_queries = d_queries_ + at,
            .log_sum_exp = log_sum_exp_ + rows.begin,
            .dots = dots_ + rows.begin};
  }

  void pack_queries(RowRange rows) {
    const QueryBlock q = query_block(rows);
    const MatrixSize size{rows.count, D_};
    const Bf16Block queries = input(Part::query, rows.begin);
    const HeadRows<Bf16> d_out_rows = head_of<Bf16>(op_.d_out, shape_, head_);
    const Bf16Block d_out{d_out_rows.row(rows.begin), d_out_rows.stride};
    // Of queries behind the last, too, scores are made: of zeros.
    std::fill_n(q.queries_transposed.data, kBlock * D_, Bf16{});
    std::fill_n(q.d_out_transposed.data, kBlock * D_, Bf16{});
    pack_transposed(queries, size, q.queries_transposed);
    pack_transposed(d_out, size, q.d_out_transposed);
    pack(queries, size, q.queries);
    pack(d_out, size, q.d_out);
  }

  void run_keys(RowRange rows) {
    key_.rows = rows;
    key_.keys = input(Part::key, rows.begin);
    key_.values = input(Part::value, rows.begin);
    transpose(key_.keys, {rows.count, D_}, key_.keys_transposed, kBlock);
    std::fill_n(key_.d_keys, kBlock * D_, 0.0f);
    std::fill_n(key_.d_values, kBlock * D_, 0.0f);
    for (std::int64_t begin = rows.begin; begin < shape_.T; begin += kBlock) {
      run_pair(query_block(block_at(begin)));
    }
    store_rows(key_.d_keys, rows, scale_, gradient(Part::key));
    store_rows(key_.d_values, rows, 1.0f, gradient(Part::value));
  }

  void run_pair(const QueryBlock& q) {
    const std::int64_t keys = key_.rows.count;
    for (std::int64_t first = 0; first < keys; first += kKeyRows)
      make_gradients_of_scores(q, first);
    const BlockShape to_keys{.rows = keys, .columns = D_, .depth = kBlock};
    multiplier_.add_product({probabilities_, kBlock}, q.d_out, {key_.d_values, D_}, to_keys);
    multiplier_.add_product({d_scores_, kBlock}, q.queries, {key_.d_keys, D_}, to_keys);
    const std::int64_t depth = round_up(keys, kPanelDepth);
    for (std::int64_t first = 0; first < depth; first += kKeyRows) {
      multiplier_.add_product({key_.keys_transposed + first, kBlock},
                              {d_scores_panels_ + first * kBlock, kKeyRows}, {q.d_queries, kBlock},
                              {.rows = D_, .columns = kBlock, .depth = kKeyRows});
    }
  }

  // P^T and dS^T of kKeyRows keys from `first` on, as left factors, and the panels of dS^T.
  void make_gradients_of_scores(const QueryBlock& q, std::int64_t first) {
    const Scores s{.scores = scores_,
                   .d_probabilities = d_probabilities_,
                   .keys = std::min(kKeyRows, key_.rows.count - first),
                   .first_query = key_.rows.begin + first - q.rows.begin};
    const BlockShape shape{.rows = s.keys, .columns = kBlock, .depth = D_};
    const auto rows = [first](Bf16Block block) {
      return Bf16Block{block.data + first * block.stride, block.stride};
    };
    multiplier_.product(rows(key_.keys), q.queries_transposed, {s.scores, kBlock}, shape);
    multiplier_.product(rows(key_.values), q.d_out_transposed, {s.d_probabilities, kBlock}, shape);
    scores_to_gradients(s, q, scale_);
    const MatrixSize size{s.keys, kBlock};
    round_rows({s.scores, kBlock}, size, probabilities_ + first * kBlock, kBlock);
    round_rows({s.d_probabilities, kBlock}, size, d_scores_ + first * kBlock, kBlock);
    round_to_panels({s.d_probabilities, kBlock}, size,
                    {d_scores_panels_ + first * kBlock, kKeyRows});
  }

  void store_queries(RowRange rows) {
    float* const d_queries = key_.d_keys;  // no longer needed
    transpose_block({d_queries_ + rows.begin * D_, kBlock}, {d_queries, D_}, D_, kBlock);
    store_rows(d_queries, rows, scale_, gradient(Part::query));
  }

  const AttentionBackward& op_;
  const AttentionShape& shape_;
  Head head_;
  std::int64_t D_;     // head_size
  std::int64_t rows_;  // T in whole blocks
  float scale_;
  float* next_;
  KeyBlock key_{};
  float* d_queries_;                                                  // per block (D, kBlock)
  float *log_sum_exp_, *dots_;                                        // (rows_)
  float *scores_, *d_probabilities_;                                  // (kKeyRows, kBlock)
  Bf16 *queries_transposed_, *d_out_transposed_, *queries_, *d_out_;  // see QueryBlock
  Bf16 *probabilities_, *d_scores_, *d_scores_panels_;                // (kBlock keys, kBlock)
  Bf16Multiplier multiplier_;
};

}  // namespace

void attention_backward_bf16(const AttentionBackward& op, const AttentionShape& shape, Head head) {
  HeadBackward(op, shape, head).run();
}

}  // namespace lathe
