// Text from a model: one token at a time, each drawn from the model's distribution.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "lathe/model.h"

namespace lathe {

struct SampleSpec {
  std::vector<std::int32_t> prompt;  // at least one token
  std::int64_t max_tokens;
  double temperature;  // 0: always the likeliest token
  std::int64_t top_k;  // 0: all
  std::uint64_t seed;
};

// The token to start from when there is no prompt: what stands before a text, or a document of
// GPT-2 shards.
std::int32_t first_token(bool is_text, std::int64_t vocab);

// Calls `emit` with each new token until there are enough or a stop signal comes. Tokens further
// back than the model's seq_len are forgotten.
void generate(Gpt2& model, const SampleSpec& spec, const std::function<void(std::int32_t)>& emit);

// The token that number u in [0, 1) stands for, of the distribution that `logits` give.
std::int32_t draw_token(std::vector<float> logits, double temperature, std::int64_t top_k,
                        double u);

// Tokens for a person to read: bytes that are no printable ASCII or newline as '?', other tokens as
// numbers.
std::string readable(const std::vector<std::int32_t>& tokens, bool is_text);

}  // namespace lathe
