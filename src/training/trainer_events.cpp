// What happens between steps but saving: validation and samples.
#include <fmt/format.h>

#include <cmath>
#include <filesystem>

#include "base/number_text.h"
#include "lathe/dataset.h"
#include "lathe/error.h"
#include "lathe/evaluate.h"
#include "lathe/model_files.h"
#include "lathe/sample.h"
#include "lathe/stop_signal.h"
#include "tokenizer/utf8.h"
#include "trainer.h"

namespace lathe {
// What a checkpoint of this step has not seen, because it was saved before: as far as it is due, it
// comes again. At its end a run does that anyhow.
void Trainer::catch_up() {
  if (state_.step == 0 || state_.step == horizon_.steps || has_ended()) return;
  if (is_due(options_.val_every)) validate();
  const bool has_sample = std::filesystem::exists(folder_->sample_path(state_.step));
  if (is_due(options_.sample_every) && !has_sample) show_sample();
}

// What a stop signal interrupts is not recorded.
void Trainer::validate() {
  if (state_.validated_step == state_.step) return;
  const Trace::Span validation = span("validate");
  if (data_.val) measure_loss();
  answer(tasks_, model_, state_.step, *folder_);
  if (must_stop()) return;
  state_.validated_step = state_.step;
  if (options_.keep_best && data_.val && state_.best_val_step == state_.step) save();
}

void Trainer::measure_loss() {
  const auto stopped_or_done = evaluate(model_, data_.val->files, options_.val_tokens,
                                        /*progress=*/{}, communicator_);
  if (!stopped_or_done) return;
  const Evaluation& evaluation = *stopped_or_done;
  if (!std::isfinite(evaluation.loss)) {
    throw Error(ExitCode::diverged,
                fmt::format("validation loss is {} at step {}: the weights are no use; try a lower "
                            "--lr or a longer --warmup-steps",
                            non_finite_text(evaluation.loss), state_.step));
  }
  result_.val_loss = evaluation.loss;
  if (!state_.best_val_loss || evaluation.loss < *state_.best_val_loss) {
    state_.best_val_loss = evaluation.loss;
    state_.best_val_step = state_.step;
  }
  if (is_due(options_.val_every) || state_.step == horizon_.steps) {
    stop_rules_.observe_validation(state_.stop_rules, state_.step, evaluation.loss);
  }
  folder_->validation(state_.step, evaluation.loss);
  std::string line = fmt::format("val  {}/{} | loss {:.4f} over {} tokens", state_.step,
                                 horizon_.steps, evaluation.loss, evaluation.tokens);
  if (!data_.val->floor.empty()) {
    const FloorComparison floor =
        compare_with_floor(evaluation, data_.val->floor, options_.seq_len);
    result_.floor = floor.floor;
    result_.floor_standard_error = floor.standard_error;
    line += fmt::format(" | floor {:.4f}, {:.1f} % above it", floor.floor, 100 * floor.excess);
  }
  folder_->say(line);
}

// Of the first rank; the others wait for it in their next step.
void Trainer::show_sample() {
  if (!communicator_.is_first() || is_stop_requested()) return;
  const Trace::Span sampling = span("sample");
  constexpr std::int64_t kTokens = 400;
  const Tokenizer* tokenizer = data_.tokenizer.get();
  const std::int32_t first =
      tokenizer != nullptr ? tokenizer->first_token() : first_token(config_.vocab);
  std::vector<std::int32_t> tokens;
  generate(decoder_,
           {.prompt = {std::min(first, static_cast<std::int32_t>(config_.vocab - 1))},
            .max_tokens = kTokens,
            .sampler = {.temperature = 0.8},
            .seed = options_.seed,
            .end = std::nullopt},
           [&](std::int64_t, std::int32_t token) { tokens.push_back(token); });
  if (is_stop_requested()) return;
  const std::string text =
      tokenizer != nullptr ? shown(decode(*tokenizer, tokens)) : numbers_text(tokens);
  folder_->write_sample(state_.step, text + "\n");
  folder_->say(fmt::format("--- sample after step {} ---\n{}\n---", state_.step, text));
}

}  // namespace lathe
