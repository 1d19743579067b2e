// Causal attention, forward, with factors in bf16 (bf16_blocks.h): the walk of attention.cpp. What
// is made for a strip of queries stands transposed throughout: out, too, is (channels, queries).
#include <cmath>
#include <limits>

#include "attention_softmax.h"
#include "scratch.h"
#include "wide.h"

namespace lathe {
namespace {

// A block of queries on its way through the keys. max and sum are as in ScoreStrip; out is the sum
// of exp(scale * (score - max)) * value.
struct QueryBlock {
  RowRange rows;
  std::int64_t position;  // of the first query, among the keys
  Panels queries;         // transposed: a panel for each strip
  float* out;             // per strip (head_size, kStrip)
  float max[kQueries], sum[kQueries];
};

struct KeyBlock {
  RowRange rows;
  Bf16Block keys;  // (rows.count, head_size)
  Bf16* values;    // transposed: (head_size, kKeys)
};

LATHE_ALSO_AVX512 void scale_columns(float* values, std::int64_t rows, const float* factors) {
  for (std::int64_t r = 0; r < rows; ++r) {
#pragma omp simd
    for (std::int64_t q = 0; q < kStrip; ++q) values[r * kStrip + q] *= factors[q];
  }
}

class BlockForward {
 public:
  BlockForward(const HeadForward<Bf16>& head, RowRange rows)
      : head_(head), D_(head.queries.size), scale_(1.0f / std::sqrt(static_cast<float>(D_))) {
    float* memory = ThreadScratch::floats(kQueries * D_ + (kQueries + kKeys) * D_ / 2 + kKeys * 8);
    q_ = {.rows = rows,
          .position = head.first_position + rows.begin,
          .queries = {reinterpret_cast<Bf16*>(memory + kQueries * D_), D_},
          .out = memory,
          .max = {},
          .sum = {}};
    k_.values = q_.queries.data + kQueries * D_;
    probabilities_ = k_.values + kKeys * D_;
  }

  void run() {
    std::fill_n(q_.max, kQueries, -std::numeric_limits<float>::infinity());
    pack_transposed({head_.queries.row(q_.rows.begin), head_.queries.stride}, {q_.rows.count, D_},
                    q_.queries);
    const std::int64_t end = q_.position + q_.rows.count;
    for (std::int64_t key = 0; key < end; key += kKeys) {
      use_keys({key, std::min(kKeys, end - key)});
      // The first strip that sees the block's first key.
      const std::int64_t first_query = std::max<std::int64_t>(0, key - q_.position);
      for (std::int64_t q = first_query / kStrip * kStrip; q < q_.rows.count; q += kStrip)
        attend(q);
    }
    finish();
  }

 private:
  void use_keys(RowRange rows) {
    k_.rows = rows;
    k_.keys = {head_.keys.row(rows.begin), head_.keys.stride};
    transpose({head_.values.row(rows.begin), head_.values.stride}, {rows.count, D_}, k_.values,
              kKeys);
  }

  // Lets queries [first, first + kStrip) of the block attend to the keys they may see.
  void attend(std::int64_t first) {
    ScoreStrip strip;
    strip.first_query = q_.position + first - k_.rows.begin;
    strip.keys = std::min(k_.rows.count, strip.first_query + kStrip);
    strip.scale = scale_;
    strip.max = q_.max + first;
    strip.sum = q_.sum + first;
    multiplier_.product(k_.keys, {q_.queries.panel(first), D_}, {strip.scores, kStrip},
                        {.rows = strip.keys, .columns = kStrip, .depth = D_});
    mask_later_keys(strip);
    update_softmax(strip);

    const Panels probabilities{probabilities_, round_up(strip.keys, kPanelDepth)};
    round_to_panels({strip.scores, kStrip}, {strip.keys, kStrip}, probabilities);
    const OutBlock out{q_.out + first * D_, kStrip};
    const BlockShape shape{.rows = D_, .columns = kStrip, .depth = probabilities.depth};
    if (k_.rows.begin == 0) {
      multiplier_.product({k_.values, kKeys}, probabilities, out, shape);
    } else {
      scale_columns(out.data, D_, strip.rescale);
      multiplier_.add_product({k_.values, kKeys}, probabilities, out, shape);
    }
  }

  // Divides by the sums: out of the block, and log_sum_exp where it is wanted.
  void finish() {
    const std::int64_t begin = q_.rows.begin;
    for (std::int64_t i = 0; head_.log_sum_exp != nullptr && i < q_.rows.count; ++i) {
      head_.log_sum_exp[begin + i] = scale_ * q_.max[i] + std::log(q_.sum[i]);
    }
    for (float& sum : q_.sum) sum = 1.0f / sum;
    for (std::int64_t first = 0; first < q_.rows.count; first += kStrip) {
      float* const out = q_.out + first * D_;
      scale_columns(out, D_, q_.sum + first);
      float* const rows = reinterpret_cast<float*>(q_.queries.data);  // no longer needed
      transpose_block({out, kStrip}, {rows, D_}, D_, kStrip);
      store_rows(rows, {begin + first, std::min(kStrip, q_.rows.count - first)}, 1.0f, head_.out);
    }
  }

  const HeadForward<Bf16>& head_;
  std::int64_t D_;  // head_size
  float scale_;
  QueryBlock q_;
  KeyBlock k_{};
  Bf16* probabilities_;  // the panel of a strip
  Bf16Multiplier multiplier_;
};

}  // namespace

void attend_block_bf16(const HeadForward<Bf16>& head, RowRange rows) {
  BlockForward(head, rows).run();
}

}  // namespace lathe
