// The softmax of attention's forward pass, online: over one block of keys after another (Milakov &
// Gimelshein 2018; Dao 2023). Scores of a strip of queries stand transposed, (keys, queries):
// maxima and sums over keys are then maxima and sums of vectors, one lane per query.
#pragma once

#include "attention_blocks.h"

namespace lathe {

inline constexpr std::int64_t kKeys = 64;  // of a block

// The scores of a strip of queries with the keys of a block that they may see.
struct ScoreStrip {
  alignas(64) float scores[kKeys * kStrip];  // (keys, kStrip), to be multiplied by scale
  std::int64_t keys;
  std::int64_t first_query;  // its place less that of the block's first key
  float scale;
  float* max;             // (kStrip): of the scores seen so far
  float* sum;             // (kStrip): of exp(scale * (score - max)) so far
  float rescale[kStrip];  // what sums under the max before must be multiplied by
};

// Scores of keys after their query become -infinity.
void mask_later_keys(ScoreStrip& strip);

// Turns scores into exp(scale * (score - max)) under the new max.
void update_softmax(ScoreStrip& strip);

}  // namespace lathe
