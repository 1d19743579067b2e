// Completions through the model, in batches of like length. Attention looks back only, so what is
// behind a completion's last token, the padding, does not touch it.
#include "lathe/multiple_choice.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "lathe/error.h"
#include "lathe/stop_signal.h"

namespace lathe {
namespace {

constexpr std::int64_t kMostRows = 4096;  // of a batch, however short they are

// A completion behind its context, as the model reads it.
struct Row {
  std::size_t example, completion;
  std::span<const std::int32_t> context, tokens;  // what is kept of the context; the completion

  // Every token but the last is read, every token but the first is predicted.
  std::int64_t length() const { return std::ssize(context) + std::ssize(tokens) - 1; }
};

std::int64_t longest_completion(const MultipleChoiceExample& example) {
  std::size_t longest = 0;
  for (const auto& tokens : example.completions) longest = std::max(longest, tokens.size());
  return static_cast<std::int64_t>(longest);
}

// How much of the context stays, so that no completion ends beyond the positions there are.
std::size_t kept_context(const MultipleChoiceExample& example, std::int64_t seq_len) {
  const std::int64_t room = seq_len + 1 - longest_completion(example);
  return static_cast<std::size_t>(std::min(std::ssize(example.context), room));
}

// All completions, the longest first: what needs most memory and time comes before the rest.
std::vector<Row> make_rows(const MultipleChoiceTask& task, std::int64_t seq_len) {
  std::vector<Row> rows;
  for (std::size_t i = 0; i < task.examples.size(); ++i) {
    const MultipleChoiceExample& example = task.examples[i];
    const auto context = std::span(example.context).last(kept_context(example, seq_len));
    for (std::size_t k = 0; k < example.completions.size(); ++k) {
      rows.push_back(
          {.example = i, .completion = k, .context = context, .tokens = example.completions[k]});
    }
  }
  std::ranges::stable_sort(rows, std::greater(), &Row::length);
  return rows;
}

// How many of the rows, of which the first is the longest, go through the model at once: as many as
// fit into `most_tokens` but, once there are enough for efficient products, none with much padding.
std::size_t batch_rows(std::span<const Row> rows, std::int64_t most_tokens) {
  constexpr std::int64_t kEnoughTokens = 1024;
  const std::int64_t T = rows.front().length();
  const std::int64_t most = std::min({std::ssize(rows), kMostRows, most_tokens / T});
  std::int64_t count = 1;
  while (count < most) {
    const bool has_little_padding = 16 * rows[static_cast<std::size_t>(count)].length() >= 15 * T;
    if (count * T >= kEnoughTokens && !has_little_padding) break;
    ++count;
  }
  return static_cast<std::size_t>(count);
}

// Writes what a row reads and what it is to predict; the rest of both stays as it is.
void fill(const Row& row, std::span<std::int32_t> tokens, std::span<std::int32_t> targets) {
  std::vector<std::int32_t> all(row.context.begin(), row.context.end());
  all.insert(all.end(), row.tokens.begin(), row.tokens.end());
  std::copy(all.begin(), all.end() - 1, tokens.begin());
  std::copy(all.begin() + 1, all.end(), targets.begin());
}

// log p of each row's completion.
std::vector<double> log_probs(Gpt2& model, std::span<const Row> rows) {
  const std::int64_t T = rows.front().length();
  std::vector<std::int32_t> tokens(rows.size() * static_cast<std::size_t>(T));
  std::vector<std::int32_t> targets(tokens.size());
  for (std::size_t b = 0; b < rows.size(); ++b) {
    const std::size_t begin = b * static_cast<std::size_t>(T);
    fill(rows[b], std::span(tokens).subspan(begin), std::span(targets).subspan(begin));
  }
  model.forward(
      {.sequences = std::ssize(rows), .seq_len = T, .tokens = tokens, .targets = targets});
  const std::vector<float> losses = model.losses();
  std::vector<double> sums;
  for (std::size_t b = 0; b < rows.size(); ++b) {
    const auto end = losses.begin() + static_cast<std::int64_t>(b) * T + rows[b].length();
    sums.push_back(-std::accumulate(end - std::ssize(rows[b].tokens), end, 0.0));
  }
  return sums;
}

Proportion proportion(std::int64_t right, std::size_t of) {
  const auto n = static_cast<double>(of);
  const double p = static_cast<double>(right) / n;
  return {.value = p, .standard_error = std::sqrt(p * (1 - p) / n)};
}

// The bytes of a completion as its file has it: the space before it is the reader's.
double text_bytes(std::span<const std::int32_t> tokens, const Tokenizer& tokenizer) {
  const std::string text = decode(tokenizer, tokens);
  const std::size_t bytes = text.size() - (text.starts_with(' ') ? 1 : 0);
  return static_cast<double>(std::max<std::size_t>(1, bytes));
}

// How often the completion of the largest log p / length(completion) is the right one.
template <class Length>
Proportion right_answers(const MultipleChoiceTask& task, const MultipleChoiceScores& scores,
                         const Length& length) {
  std::int64_t right = 0;
  for (std::size_t i = 0; i < task.examples.size(); ++i) {
    const MultipleChoiceExample& example = task.examples[i];
    std::vector<double> normalized;
    for (std::size_t k = 0; k < example.completions.size(); ++k) {
      normalized.push_back(scores.log_probs[i][k] / length(example.completions[k]));
    }
    if (std::ranges::max_element(normalized) - normalized.begin() == example.label) ++right;
  }
  return proportion(right, task.examples.size());
}

}  // namespace

void require_fit(const MultipleChoiceTask& task, std::int64_t vocab, std::int64_t seq_len) {
  for (std::size_t i = 0; i < task.examples.size(); ++i) {
    const MultipleChoiceExample& example = task.examples[i];
    const auto check = [&](std::span<const std::int32_t> tokens) {
      const auto found = std::ranges::find_if(tokens, [&](auto token) { return token >= vocab; });
      if (found == tokens.end()) return;
      throw Error(ExitCode::data,
                  fmt::format("{}: example {}: token {} is outside the model's vocabulary of {}",
                              task.name, i, *found, vocab));
    };
    check(example.context);
    for (const auto& completion : example.completions) check(completion);
    if (const std::int64_t longest = longest_completion(example); longest > seq_len) {
      throw Error(ExitCode::data,
                  fmt::format("{}: example {}: a completion of {} tokens does not fit into the {} "
                              "positions of the model or of --seq-len",
                              task.name, i, longest, seq_len));
    }
  }
}

std::optional<MultipleChoiceScores> score(Gpt2& model, const MultipleChoiceTask& task,
                                          const Progress& progress) {
  const std::int64_t seq_len = model.options().seq_len;
  require_fit(task, model.config().vocab, seq_len);
  MultipleChoiceScores scores{.log_probs = {}, .cut_examples = 0, .tokens = 0, .padded_tokens = 0};
  for (const MultipleChoiceExample& example : task.examples) {
    scores.log_probs.emplace_back(example.completions.size());
    if (kept_context(example, seq_len) < example.context.size()) ++scores.cut_examples;
  }
  const std::vector<Row> rows = make_rows(task, seq_len);
  const std::int64_t all_tokens =
      std::transform_reduce(rows.begin(), rows.end(), std::int64_t{0}, std::plus(),
                            [](const Row& r) { return r.length(); });
  std::span<const Row> left = rows;
  while (!left.empty()) {
    if (is_stop_requested()) return std::nullopt;
    const auto batch = left.first(batch_rows(left, model.options().micro_batch * seq_len));
    const std::vector<double> sums = log_probs(model, batch);
    for (std::size_t b = 0; b < batch.size(); ++b) {
      const Row& row = batch[b];
      if (!std::isfinite(sums[b])) {
        throw Error(ExitCode::diverged,
                    fmt::format("{}: example {}: the model's log p of completion {} is not finite: "
                                "its weights are no use",
                                task.name, row.example, row.completion));
      }
      scores.log_probs[row.example][row.completion] = sums[b];
      scores.tokens += row.length();
    }
    scores.padded_tokens += std::ssize(batch) * batch.front().length();
    left = left.subspan(batch.size());
    if (progress) progress(scores.tokens, all_tokens);
  }
  return scores;
}

MultipleChoiceAccuracy grade(const MultipleChoiceTask& task, const MultipleChoiceScores& scores,
                             const Tokenizer* tokenizer) {
  using Tokens = std::span<const std::int32_t>;
  MultipleChoiceAccuracy accuracy{
      .by_sum = right_answers(task, scores, [](Tokens) { return 1.0; }),
      .by_token = right_answers(task, scores,
                                [](Tokens tokens) { return static_cast<double>(tokens.size()); }),
      .by_byte = std::nullopt};
  if (tokenizer != nullptr) {
    accuracy.by_byte =
        right_answers(task, scores, [&](Tokens tokens) { return text_bytes(tokens, *tokenizer); });
  }
  return accuracy;
}

}  // namespace lathe
