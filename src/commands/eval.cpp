// lathe eval: what a model makes of text it has not seen, and of multiple-choice tasks.
#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "base/number_text.h"
#include "data/progress_bar.h"
#include "lathe/commands.h"
#include "lathe/error.h"
#include "lathe/evaluate.h"
#include "lathe/model_files.h"
#include "lathe/multiple_choice.h"
#include "lathe/stop_signal.h"
#include "lathe/training_data.h"

namespace lathe {
namespace {

using nlohmann::ordered_json;

// What was found, for programs and for people.
struct Report {
  ordered_json json;
  std::string text;
};

// On a terminal, how much is done and how long the rest takes.
Progress show_in(ProgressBar& bar, const std::string& name) {
  return [&bar, name, start = now()](std::int64_t done, std::int64_t all) {
    if (done == 0 || !bar.is_due()) return;
    const double share = static_cast<double>(done) / static_cast<double>(all);
    bar.show(share,
             fmt::format("{} | {} left", name, duration_text((now() - start) * (1 / share - 1))));
  };
}

ordered_json or_null(const std::optional<double>& value) {
  return value ? ordered_json(*value) : ordered_json(nullptr);
}

// What knows the bytes of a model's tokens, or why nothing here does.
class ModelTokenizer {
 public:
  explicit ModelTokenizer(const ModelInfo& info) {
    if (info.tokenizer == "none") {
      why_.emplace(ExitCode::usage, fmt::format("--checkpoint {}: does not say which tokenizer its "
                                                "tokens are of",
                                                info.path.string()));
      return;
    }
    try {
      tokenizer_ = open_tokenizer(info.tokenizer);
    } catch (const Error& error) {
      why_ = error;
    }
  }

  const Tokenizer* get() const { return tokenizer_.get(); }  // nullptr: there is none
  std::string why() const { return why_ ? why_->what() : ""; }
  const Tokenizer& require() const {
    if (why_) throw Error(*why_);
    return *tokenizer_;
  }

 private:
  std::shared_ptr<const Tokenizer> tokenizer_;
  std::optional<Error> why_;
};

void add_bits_per_byte(const Evaluation& evaluation, const ValidationData& data,
                       const Options& options, const ModelTokenizer& tokenizer, Report& report) {
  report.json["bytes"] = report.json["bits_per_byte"] = nullptr;
  if (tokenizer.get() == nullptr) {
    report.text += fmt::format("\nno bits per byte: {}", tokenizer.why());
    return;
  }
  const std::int64_t bytes =
      target_bytes(evaluation, data.files, options.seq_len, *tokenizer.get());
  if (bytes == 0) return;
  const double bits = evaluation.loss * static_cast<double>(evaluation.tokens) / std::log(2.0);
  report.json["bytes"] = bytes;
  report.json["bits_per_byte"] = bits / static_cast<double>(bytes);
  report.text += fmt::format(" | {:.4f} bits per byte", bits / static_cast<double>(bytes));
}

// Of a sequence.
std::int64_t positions_of(const Options& options, const ModelInfo& info) {
  constexpr std::int64_t kMost = 1024;  // unless more are asked for
  if (options.seq_len > info.config.context) {
    throw Error(ExitCode::usage,
                fmt::format("--seq-len {}: is beyond the {} positions of {}", options.seq_len,
                            info.config.context, info.path.string()));
  }
  return options.seq_len > 0 ? options.seq_len : std::min(info.config.context, kMost);
}

// The validation data, where the loss is asked for.
std::optional<ValidationData> open_data(const Options& options, const ModelInfo& info,
                                        const ModelTokenizer& tokenizer) {
  if (options.val.empty() && !options.multiple_choice.empty()) return std::nullopt;
  if (options.val.empty() && info.tokenizer != "bytes") {
    throw Error(ExitCode::usage,
                fmt::format("--val: is needed, or --multiple-choice: the stories that stand in for "
                            "them are bytes, and those are not the tokens of {}",
                            info.path.string()));
  }
  const std::int64_t tokens = options.val_tokens > 0 ? options.val_tokens : kMostValidationTokens;
  return open_validation_data(
      options, {.vocab = info.config.vocab,
                .tokens = std::max(tokens, options.seq_len) + 1,
                .tokenizer_name = info.tokenizer,
                .tokenizer = [&]() -> const Tokenizer& { return tokenizer.require(); }});
}

// False: a stop signal came.
bool add_loss(LoadedModel& loaded, const ValidationData& data, const Options& options,
              const ModelTokenizer& tokenizer, Report& report) {
  const double start = now();
  ProgressBar bar(/*wanted=*/true);
  const auto evaluation =
      evaluate(*loaded.model, data.files, options.val_tokens, show_in(bar, "validation"));
  if (!evaluation) return false;
  const std::optional<double> error = standard_error(*evaluation);
  report.json["val_loss"] = evaluation->loss;
  report.json["val_loss_standard_error"] = or_null(error);
  report.json["perplexity"] = std::exp(evaluation->loss);
  report.json["tokens"] = evaluation->tokens;
  report.text +=
      fmt::format("\n{}\nval loss {:.4f}{} | perplexity {:.3f} | {} tokens", data.files.summary(),
                  evaluation->loss, error ? fmt::format(" +- {:.4f}", *error) : "",
                  std::exp(evaluation->loss), evaluation->tokens);
  add_bits_per_byte(*evaluation, data, options, tokenizer, report);
  report.json["tokens_per_second"] = static_cast<double>(evaluation->tokens) / (now() - start);
  if (!data.floor.empty()) {
    const FloorComparison floor = compare_with_floor(*evaluation, data.floor, options.seq_len);
    report.json["val_floor"] = floor.floor;
    report.json["val_floor_standard_error"] = floor.standard_error;
    report.text += fmt::format("\nfloor {:.4f} of the stories' grammar, {:+.1f} %", floor.floor,
                               100 * floor.excess);
  }
  return true;
}

void add_proportion(const std::string& name, const Proportion& proportion, ordered_json& json,
                    std::string& text) {
  json[name] = proportion.value;
  json[name + "_standard_error"] = proportion.standard_error;
  text += fmt::format(" | {} {:.4f} +- {:.4f}", name, proportion.value, proportion.standard_error);
}

// False: a stop signal came.
bool add_multiple_choice(Gpt2& model, const MultipleChoiceTask& task, const Tokenizer* tokenizer,
                         Report& report) {
  const double start = now();
  ProgressBar bar(/*wanted=*/true);
  const auto scores = score(model, task, show_in(bar, task.name));
  if (!scores) return false;
  const double seconds = now() - start;
  const auto examples = static_cast<double>(task.examples.size());
  const double padding =
      1 - static_cast<double>(scores->tokens) / static_cast<double>(scores->padded_tokens);
  const MultipleChoiceAccuracy accuracy = grade(task, *scores, tokenizer);

  ordered_json json = {{"file", task.name}, {"examples", task.examples.size()}};
  report.text += fmt::format("\n{} | {} examples", task.name, task.examples.size());
  add_proportion("acc", accuracy.by_sum, json, report.text);
  add_proportion("acc_norm", accuracy.by_token, json, report.text);
  if (accuracy.by_byte) add_proportion("acc_bytes", *accuracy.by_byte, json, report.text);
  json["cut_examples"] = scores->cut_examples;
  json["tokens"] = scores->tokens;
  json["padding_fraction"] = padding;
  json["examples_per_second"] = examples / seconds;
  json["tokens_per_second"] = static_cast<double>(scores->tokens) / seconds;
  report.json["multiple_choice"].push_back(json);
  report.text += fmt::format(" | {:.1f} examples/s", examples / seconds);
  if (scores->cut_examples > 0) {
    report.text += fmt::format(" | {} contexts cut to {} positions", scores->cut_examples,
                               model.options().seq_len);
  }
  return true;
}

int report_stop() {
  fmt::print(stderr, "lathe: stopped by {} before the evaluation was over\n", stop_cause());
  return stop_exit_code();
}

}  // namespace

int eval_command(const Options& given) {
  watch_stop_signals();
  Options options = given;
  const auto source = open_model(options.checkpoint, Weights::in_use);
  const ModelInfo& info = source->info();
  options.seq_len = positions_of(options, info);
  const ModelTokenizer tokenizer(info);
  const auto data = open_data(options, info, tokenizer);
  if (is_stop_requested()) return report_stop();
  std::vector<MultipleChoiceTask> tasks;
  for (const std::string& path : options.multiple_choice) {
    tasks.push_back(
        open_multiple_choice(path, [&]() -> const Tokenizer& { return tokenizer.require(); }));
    require_fit(tasks.back(), info.config.vocab, options.seq_len);
  }

  // Last, as it takes longest.
  LoadedModel loaded = load_model(options, *source,
                                  {.micro_batch = options.micro_batch, .seq_len = options.seq_len});
  Report report{.json = {{"checkpoint", info.path.string()},
                         {"step", info.step ? ordered_json(*info.step) : ordered_json(nullptr)}},
                .text = info.path.string()};
  if (data && !add_loss(loaded, *data, options, tokenizer, report)) return report_stop();
  for (const MultipleChoiceTask& task : tasks) {
    if (!add_multiple_choice(*loaded.model, task, tokenizer.get(), report)) return report_stop();
  }
  // A path need not be UTF-8, which JSON has to be.
  fmt::print("{}\n", options.json
                         ? report.json.dump(-1, ' ', false, ordered_json::error_handler_t::replace)
                         : report.text);
  return 0;
}

}  // namespace lathe
