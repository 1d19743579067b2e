// Validation loss over a fixed set of sequences, and how far it is from a known floor.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "lathe/communicator.h"
#include "lathe/model.h"
#include "lathe/progress.h"
#include "lathe/token_files.h"
#include "lathe/tokenizer.h"

namespace lathe {

struct Evaluation {
  double loss;  // nats per token
  std::int64_t tokens;
  std::vector<double> sequence_losses;  // sum over each sequence's seq_len targets, nats
};

// The most tokens that are evaluated where nothing else is said.
inline constexpr std::int64_t kMostValidationTokens = 1'000'000;

// Evaluates the first sequences of `files`, at most `tokens` (0: 1M) and at least one sequence. The
// tokens are the same for any batch shape. Gives nothing when a stop signal comes meanwhile. Ranks
// take turns with the batches: the result is that of one rank, bit for bit.
std::optional<Evaluation> evaluate(Gpt2& model, const TokenFiles& files, std::int64_t tokens,
                                   const Progress& progress = {},
                                   Communicator& communicator = alone());

// How exactly `loss` is known, if the sequences are independent draws: the standard deviation of
// their losses over the square root of their number. Nothing for a single sequence.
std::optional<double> standard_error(const Evaluation& evaluation);

// The bytes that the evaluated targets stand for; the end-of-text token stands for none.
std::int64_t target_bytes(const Evaluation& evaluation, const TokenFiles& files,
                          std::int64_t seq_len, const Tokenizer& tokenizer);

// The same targets under the distribution that wrote them: `nats[i]` is byte i's -log p.
struct FloorComparison {
  double floor;           // nats per token
  double excess;          // (loss - floor) / floor
  double standard_error;  // of loss - floor, from the differences sequence by sequence
};
FloorComparison compare_with_floor(const Evaluation& evaluation, std::span<const float> nats,
                                   std::int64_t seq_len);

}  // namespace lathe
