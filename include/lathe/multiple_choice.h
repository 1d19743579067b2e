// Multiple-choice tasks such as HellaSwag: a context, several completions of it, one of them right.
// A model answers with the completion that it finds likeliest after the context.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lathe/model.h"
#include "lathe/progress.h"
#include "lathe/tokenizer.h"

namespace lathe {

struct MultipleChoiceExample {
  std::vector<std::int32_t> context;                   // at least one token
  std::vector<std::vector<std::int32_t>> completions;  // at least two, of at least one token each
  std::int64_t label;                                  // the right one
};

struct MultipleChoiceTask {
  std::string name;                             // the file's, for messages
  std::vector<MultipleChoiceExample> examples;  // at least one
};

// Reads an llm.c evaluation file, or JSON lines as HellaSwag comes in (docs/formats.md), for which
// `tokenizer` is called. Error(data) names the file, the place in it and the reason.
MultipleChoiceTask open_multiple_choice(const std::string& path,
                                        const std::function<const Tokenizer&()>& tokenizer);

// The same of what is in the two kinds of files.
MultipleChoiceTask parse_llmc_evaluation(std::span<const std::byte> bytes, const std::string& name);
MultipleChoiceTask parse_multiple_choice_lines(std::string_view text, const Tokenizer& tokenizer,
                                               const std::string& name);

// Error(data) at the first token that a model of this vocabulary does not know, and at the first
// completion of more than seq_len tokens.
void require_fit(const MultipleChoiceTask& task, std::int64_t vocab, std::int64_t seq_len);

struct MultipleChoiceScores {
  // By example and completion: the sum of log p of the completion's tokens, in nats.
  std::vector<std::vector<double>> log_probs;
  std::int64_t cut_examples;           // whose context lost its beginning
  std::int64_t tokens, padded_tokens;  // that went through the model: without padding, and with it
};

// Scores every completion after its example's context. An example of more than seq_len tokens loses
// the beginning of its context, for all of its completions alike. Completions of like length go
// through the model together, in the memory for micro_batch sequences of seq_len; how they meet
// changes rounding alone. Gives nothing when a stop signal comes meanwhile. Throws Error(diverged)
// when the model gives a log p that is not finite.
std::optional<MultipleChoiceScores> score(Gpt2& model, const MultipleChoiceTask& task,
                                          const Progress& progress = {});

struct Proportion {
  double value;
  double standard_error;  // sqrt(p (1 - p) / n)
};

// How often the answer is right; among equal completions the first is the answer.
struct MultipleChoiceAccuracy {
  Proportion by_sum;                  // acc: by log p of the whole completion
  Proportion by_token;                // acc_norm of llm.c: by the mean of log p over its tokens
  std::optional<Proportion> by_byte;  // acc_bytes: log p by byte, but for a leading space
};

// `tokenizer` knows the bytes of the tokens; nullptr: they are not known.
MultipleChoiceAccuracy grade(const MultipleChoiceTask& task, const MultipleChoiceScores& scores,
                             const Tokenizer* tokenizer);

}  // namespace lathe
