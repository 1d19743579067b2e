#include "attention_softmax.h"

#include <limits>

#include "vector_math.h"
#include "wide.h"

namespace lathe {

void mask_later_keys(ScoreStrip& strip) {
  for (std::int64_t k = std::max<std::int64_t>(strip.first_query + 1, 0); k < strip.keys; ++k) {
    const std::int64_t later = std::min(k - strip.first_query, kStrip);
    std::fill_n(strip.scores + k * kStrip, later, -std::numeric_limits<float>::infinity());
  }
}

LATHE_ALSO_AVX512 void update_softmax(ScoreStrip& strip) {
  float new_max[kStrip], sum[kStrip] = {};
  std::copy_n(strip.max, kStrip, new_max);
  for (std::int64_t k = 0; k < strip.keys; ++k) {
#pragma omp simd
    for (std::int64_t q = 0; q < kStrip; ++q) {
      const float score = strip.scores[k * kStrip + q];
      new_max[q] = score > new_max[q] ? score : new_max[q];
    }
  }
  for (std::int64_t k = 0; k < strip.keys; ++k) {
#pragma omp simd
    for (std::int64_t q = 0; q < kStrip; ++q) {
      const float e = fast_exp(strip.scale * (strip.scores[k * kStrip + q] - new_max[q]));
      strip.scores[k * kStrip + q] = e;
      sum[q] += e;
    }
  }
#pragma omp simd
  for (std::int64_t q = 0; q < kStrip; ++q) {
    strip.rescale[q] = fast_exp(strip.scale * (strip.max[q] - new_max[q]));
    strip.sum[q] = strip.sum[q] * strip.rescale[q] + sum[q];
    strip.max[q] = new_max[q];
  }
}

}  // namespace lathe
