// Text from a model: one token at a time, each drawn from the model's distribution.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "lathe/decoder.h"
#include "lathe/sampler.h"

namespace lathe {

struct SampleSpec {
  std::vector<std::int32_t> prompt;  // at least one token
  std::int64_t samples = 1;          // continuations of it
  std::int64_t max_tokens;           // of each
  SamplerOptions sampler;
  std::uint64_t seed;  // sample i follows from seed and i; on a GPU others may change its rounding
  std::optional<std::int32_t> end;  // the token that ends a sample; nullopt: none does
};

// Samples of a decoder that are made side by side: as many as a step takes little longer for than
// for one.
inline constexpr std::int64_t kMostSamplesAtOnce = 8;

// The token to start from when there is no prompt and it is not known what tokens stand for: what
// stands before a document of GPT-2 shards, where the vocabulary has it.
std::int32_t first_token(std::int64_t vocab);

// Calls emit(sample, token) with each new token, `end` included, until there are enough or a stop
// signal comes: those of a sample in order, those of samples made side by side in turns.
//
// What the model sees: of a prompt longer than the decoder's positions, its end. When all positions
// are taken, the newer half of them (rounded down) stays and begins at the first position; so the
// model sees all positions or the newest, at least half of them. This is a rule about tokens, the
// same for every decoder.
void generate(Decoder& decoder, const SampleSpec& spec,
              const std::function<void(std::int64_t sample, std::int32_t token)>& emit);

// Tokens of which it is not known what they stand for: their numbers, each with a space behind it.
std::string numbers_text(const std::vector<std::int32_t>& tokens);

}  // namespace lathe
