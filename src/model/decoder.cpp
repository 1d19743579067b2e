#include "lathe/decoder.h"

#include <algorithm>

#include "lathe/error.h"

namespace lathe {

CachedDecoder::CachedDecoder(Backend& backend, Gpt2& model, std::int64_t sequences)
    : Decoder(model, sequences),
      memory_(backend.allocate(memory_bytes(model.config(), model.options(), sequences))),
      lengths_(static_cast<std::size_t>(sequences)) {
  Arena arena(memory_.get());
  cache_ = lay_out_cache(arena, model.config(), model.options().precision, sequences, positions());
}

std::int64_t CachedDecoder::memory_bytes(const ModelConfig& config, const ModelOptions& options,
                                         std::int64_t sequences) {
  Arena measure;
  lay_out_cache(measure, config, options.precision, sequences, options.seq_len);
  return measure.bytes();
}

std::vector<float> CachedDecoder::begin(std::int64_t first, std::int64_t count,
                                        std::span<const std::int32_t> tokens) {
  std::fill_n(lengths_.begin() + first, count, static_cast<std::int64_t>(tokens.size()));
  return model_.next_token_logits(
      cache_, {.tokens = tokens, .shared = true, .first = first, .count = count, .begin = 0});
}

std::vector<float> CachedDecoder::append(std::span<const std::int32_t> tokens) {
  const std::int64_t length = lengths_.at(0);
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (lengths_.at(i)++ != length) {
      throw Error(ExitCode::internal,
                  "Decoder: sequences of different lengths cannot grow at once");
    }
  }
  return model_.next_token_logits(cache_, {.tokens = tokens,
                                           .shared = false,
                                           .first = 0,
                                           .count = static_cast<std::int64_t>(tokens.size()),
                                           .begin = length});
}

RecomputingDecoder::RecomputingDecoder(Gpt2& model, std::int64_t sequences)
    : Decoder(model, sequences), tokens_(static_cast<std::size_t>(sequences)) {}

std::vector<float> RecomputingDecoder::begin(std::int64_t first, std::int64_t count,
                                             std::span<const std::int32_t> tokens) {
  std::fill_n(tokens_.begin() + first, count,
              std::vector<std::int32_t>(tokens.begin(), tokens.end()));
  return model_.next_token_logits(tokens);
}

std::vector<float> RecomputingDecoder::append(std::span<const std::int32_t> tokens) {
  std::vector<float> logits;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    tokens_.at(i).push_back(tokens[i]);
    const std::vector<float> row = model_.next_token_logits(tokens_.at(i));
    logits.insert(logits.end(), row.begin(), row.end());
  }
  return logits;
}

}  // namespace lathe
