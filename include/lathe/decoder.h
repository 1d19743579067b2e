// Sequences that grow by a token at a time, side by side, each step giving the logits of what may
// come next. A sequence has a first position and at most positions() of them: what becomes of one
// that is full is its user's to decide (sample.h).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "lathe/model.h"

namespace lathe {

class Decoder {
 public:
  virtual ~Decoder() = default;

  std::int64_t sequences() const { return sequences_; }
  std::int64_t positions() const { return model_.options().seq_len; }
  std::int64_t vocab() const { return model_.config().vocab; }

  // Sequences [first, first + count) become `tokens`, of which there are 1 to positions(). Returns
  // the logits (V) of the token after them.
  virtual std::vector<float> begin(std::int64_t first, std::int64_t count,
                                   std::span<const std::int32_t> tokens) = 0;

  // Token i goes to the end of sequence i; as many of the first sequences grow as there are tokens,
  // and they are all as long as each other. Returns the logits (tokens, V) of what follows.
  virtual std::vector<float> append(std::span<const std::int32_t> tokens) = 0;

 protected:
  Decoder(Gpt2& model, std::int64_t sequences) : model_(model), sequences_(sequences) {}

  Gpt2& model_;

 private:
  std::int64_t sequences_;
};

// Keeps the keys and values of all positions, so that a token costs one position. Takes its memory
// when it is made.
class CachedDecoder final : public Decoder {
 public:
  CachedDecoder(Backend& backend, Gpt2& model, std::int64_t sequences);

  std::vector<float> begin(std::int64_t first, std::int64_t count,
                           std::span<const std::int32_t> tokens) override;
  std::vector<float> append(std::span<const std::int32_t> tokens) override;

  static std::int64_t memory_bytes(const ModelConfig& config, const ModelOptions& options,
                                   std::int64_t sequences);

 private:
  Buffer memory_;
  KeyValueCache cache_;
  std::vector<std::int64_t> lengths_;  // of each sequence
};

// Computes all positions anew for every token: what CachedDecoder is compared with.
class RecomputingDecoder final : public Decoder {
 public:
  RecomputingDecoder(Gpt2& model, std::int64_t sequences);

  std::vector<float> begin(std::int64_t first, std::int64_t count,
                           std::span<const std::int32_t> tokens) override;
  std::vector<float> append(std::span<const std::int32_t> tokens) override;

 private:
  std::vector<std::vector<std::int32_t>> tokens_;  // of each sequence
};

}  // namespace lathe
