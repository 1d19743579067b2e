// What scripts/make_golden.py wrote: a model, a batch, ten AdamW steps, and what float64 made of
// them.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "lathe/adamw.h"
#include "lathe/model.h"
#include "lathe/safetensors.h"

namespace lathe::test {

struct GoldenCase {
  ModelConfig config;
  std::int64_t rows, seq_len;  // of a step
  AdamWOptions adamw;
  std::vector<float> learning_rates, losses, norms;  // by step
  std::vector<std::int32_t> tokens, targets;         // (steps, rows, seq_len)
  std::vector<float> logits;                         // (rows, seq_len, V) of step 0
  // By parameter name. Initial values are such that bf16 holds them exactly.
  std::map<std::string, std::vector<float>> initial, gradient, final;

  std::int64_t steps() const { return static_cast<std::int64_t>(losses.size()); }
  // Rows [first, first + count) of a step.
  Batch batch(std::int64_t step, std::int64_t first, std::int64_t count) const;
};

GoldenCase read_golden(const std::string& path);

}  // namespace lathe::test
