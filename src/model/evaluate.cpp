#include "lathe/evaluate.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "lathe/stop_signal.h"

namespace lathe {
namespace {

// Reads sequences [first, first + count) into the two (count, T) arrays of a batch.
void read_batch(const TokenFiles& files, std::int64_t first, std::int64_t count, std::int64_t T,
                std::span<std::int32_t> tokens, std::span<std::int32_t> targets) {
  std::vector<std::int32_t> row(static_cast<std::size_t>(T + 1));
  for (std::int64_t b = 0; b < count; ++b) {
    files.read_sequence(first + b, T, row);
    std::copy_n(row.begin(), T, tokens.begin() + b * T);
    std::copy_n(row.begin() + 1, T, targets.begin() + b * T);
  }
}

}  // namespace

std::optional<Evaluation> evaluate(Gpt2& model, const TokenFiles& files, std::int64_t tokens,
                                   const Progress& progress, Communicator& communicator) {
  const std::int64_t T = model.options().seq_len, B = model.options().micro_batch;
  const std::int64_t wanted = (tokens > 0 ? tokens : kMostValidationTokens) / T;
  const std::int64_t sequences = std::min(files.sequences(T), std::max<std::int64_t>(1, wanted));
  std::vector<std::int32_t> inputs(static_cast<std::size_t>(B * T)), targets(inputs.size());
  Evaluation result{.loss = 0,
                    .tokens = sequences * T,
                    .sequence_losses = std::vector<double>(static_cast<std::size_t>(sequences))};
  bool is_stopped = false;
  for (std::int64_t first = communicator.rank() * B; first < sequences;
       first += communicator.size() * B) {
    is_stopped = is_stop_requested();
    if (is_stopped) break;
    const std::int64_t count = std::min(B, sequences - first);
    read_batch(files, first, count, T, inputs, targets);
    const auto size = static_cast<std::size_t>(count * T);
    model.forward({.sequences = count,
                   .seq_len = T,
                   .tokens = std::span(inputs).first(size),
                   .targets = std::span(targets).first(size)});
    const std::vector<float> losses = model.losses();
    for (std::int64_t b = 0; b < count; ++b) {
      const auto begin = losses.begin() + b * T;
      result.sequence_losses[static_cast<std::size_t>(first + b)] =
          std::accumulate(begin, begin + T, 0.0);
    }
    if (progress) progress(first + count, sequences);
  }
  if (communicator.any(is_stopped)) return std::nullopt;
  communicator.sum(result.sequence_losses);  // each is 0 on all ranks but one
  result.loss = std::accumulate(result.sequence_losses.begin(), result.sequence_losses.end(), 0.0) /
                static_cast<double>(result.tokens);
  return result;
}

std::optional<double> standard_error(const Evaluation& evaluation) {
  const auto count = static_cast<double>(evaluation.sequence_losses.size());
  if (count < 2) return std::nullopt;
  const double T = static_cast<double>(evaluation.tokens) / count;
  double square_sum = 0;
  for (const double loss : evaluation.sequence_losses) {
    square_sum += (loss / T - evaluation.loss) * (loss / T - evaluation.loss);
  }
  return std::sqrt(square_sum / (count - 1) / count);
}

std::int64_t target_bytes(const Evaluation& evaluation, const TokenFiles& files,
                          std::int64_t seq_len, const Tokenizer& tokenizer) {
  const SequenceTable table(files, seq_len);
  std::vector<std::int32_t> row(static_cast<std::size_t>(seq_len + 1));
  std::size_t bytes = 0;
  for (std::int64_t i = 0; i < std::ssize(evaluation.sequence_losses); ++i) {
    table.read(files, i, row);
    for (std::size_t t = 1; t < row.size(); ++t) bytes += tokenizer.bytes(row[t]).size();
  }
  return static_cast<std::int64_t>(bytes);
}

FloorComparison compare_with_floor(const Evaluation& evaluation, std::span<const float> nats,
                                   std::int64_t seq_len) {
  const auto count = static_cast<double>(evaluation.sequence_losses.size());
  const auto T = static_cast<double>(seq_len);
  double floor = 0, sum = 0, square_sum = 0;
  std::int64_t begin = 1;  // the first target is the second byte
  for (const double loss : evaluation.sequence_losses) {
    const auto targets =
        nats.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(seq_len));
    const double expected = std::accumulate(targets.begin(), targets.end(), 0.0);
    const double difference = (loss - expected) / T;
    floor += expected / T;
    sum += difference;
    square_sum += difference * difference;
    begin += seq_len;
  }
  const double mean = sum / count;
  const double variance = count > 1 ? (square_sum - count * mean * mean) / (count - 1) : 0;
  return {.floor = floor / count,
          .excess = mean / (floor / count),
          .standard_error = std::sqrt(std::max(0.0, variance) / count)};
}

}  // namespace lathe
