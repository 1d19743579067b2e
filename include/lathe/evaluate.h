// Validation loss over a fixed set of sequences, and how far it is from a known floor.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "lathe/model.h"
#include "lathe/token_files.h"

namespace lathe {

struct Evaluation {
  double loss;  // nats per token
  std::int64_t tokens;
  std::vector<double> sequence_losses;  // sum over each sequence's seq_len targets, nats
};

// Evaluates the first sequences of `files`, at most `tokens` (0: 1M) and at least one sequence. The
// tokens are the same for any batch shape. Gives nothing when a stop signal comes meanwhile.
std::optional<Evaluation> evaluate(Gpt2& model, const TokenFiles& files, std::int64_t tokens);

// The same targets under the distribution that wrote them: `nats[i]` is byte i's -log p.
struct FloorComparison {
  double floor;           // nats per token
  double excess;          // (loss - floor) / floor
  double standard_error;  // of loss - floor, from the differences sequence by sequence
};
FloorComparison compare_with_floor(const Evaluation& evaluation, std::span<const float> nats,
                                   std::int64_t seq_len);

}  // namespace lathe
