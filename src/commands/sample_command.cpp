// lathe sample: text from a model, written as it is made.
#include <fmt/format.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <system_error>

#include "base/clock.h"
#include "lathe/commands.h"
#include "lathe/error.h"
#include "lathe/model_files.h"
#include "lathe/sample.h"
#include "lathe/tokenizer.h"
#include "tokenizer/utf8_stream.h"

namespace lathe {
namespace {

// All bytes of a file, which may be a pipe; "-" is stdin.
std::string read_prompt(const std::string& path) {
  const auto fail = [&] {
    throw Error(ExitCode::data, fmt::format("--prompt-file {}: {}", path, std::strerror(errno)));
  };
  const auto close = [](std::FILE* file) { return file == stdin ? 0 : std::fclose(file); };
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(
      path == "-" ? stdin : std::fopen(path.c_str(), "rb"), close);
  if (file == nullptr) fail();
  std::string text;
  char buffer[1 << 16];
  while (const std::size_t count = std::fread(buffer, 1, sizeof buffer, file.get())) {
    text.append(buffer, count);
  }
  if (std::ferror(file.get()) != 0) fail();
  if (text.empty()) {
    throw Error(ExitCode::data,
                fmt::format("--prompt-file {}: is empty, and so is nothing to continue", path));
  }
  return text;
}

struct Prompt {
  std::string option;  // for messages; "": none was given
  std::string text;
};

// stdin is read when it is asked for and never else: a script may have left it open.
Prompt find_prompt(const Options& options) {
  if (options.prompt_file.empty()) {
    return {.option = options.prompt.empty() ? "" : "--prompt", .text = options.prompt};
  }
  if (!options.prompt.empty()) {
    throw Error(ExitCode::usage,
                fmt::format("--prompt-file {}: excludes --prompt; give one", options.prompt_file));
  }
  return {.option = "--prompt-file " + options.prompt_file,
          .text = read_prompt(options.prompt_file)};
}

// nullptr when it is not known what the model's tokens stand for.
std::shared_ptr<const Tokenizer> tokenizer_of(const ModelInfo& info) {
  return info.tokenizer == "none" ? nullptr : open_tokenizer(info.tokenizer);
}

// The token that ends a text, and stands before one. What a model's file says of it goes before
// what its tokenizer does: that is what the model was trained with.
std::optional<std::int32_t> end_of_text(const ModelInfo& info, const Tokenizer* tokenizer) {
  if (info.end_of_text) return static_cast<std::int32_t>(*info.end_of_text);
  return tokenizer == nullptr ? std::nullopt : tokenizer->end_of_text();
}

std::int32_t first_token_of(const ModelInfo& info, const Tokenizer* tokenizer) {
  if (const auto end = end_of_text(info, tokenizer)) return *end;
  return tokenizer == nullptr ? first_token(info.config.vocab) : tokenizer->first_token();
}

std::vector<std::int32_t> tokens_of(const Prompt& prompt, const Tokenizer* tokenizer,
                                    const ModelInfo& info) {
  const std::int64_t vocab = info.config.vocab;
  if (prompt.text.empty()) {
    return {std::min(first_token_of(info, tokenizer), static_cast<std::int32_t>(vocab - 1))};
  }
  if (tokenizer == nullptr) {
    throw Error(ExitCode::usage,
                fmt::format("{}: {} does not say how text becomes its tokens; without a prompt "
                            "lathe sample prints their numbers",
                            prompt.option, info.path.string()));
  }
  std::vector<std::int32_t> tokens = encode(*tokenizer, prompt.text);
  for (const std::int32_t token : tokens) {
    if (token < vocab) continue;
    throw Error(ExitCode::usage, fmt::format("{}: token {} of it is outside the {} that {} knows",
                                             prompt.option, token, vocab, info.path.string()));
  }
  return tokens;
}

// Text of samples, of which only one can be written as it is made: that of the others waits for its
// turn. Errors: storage, and std::system_error for a reader that is gone.
class Printer {
 public:
  Printer(const Tokenizer* tokenizer, std::int64_t samples, std::string start)
      : tokenizer_(tokenizer),
        start_(std::move(start)),
        waiting_(static_cast<std::size_t>(samples)) {
    write(characters_.take(start_));
  }

  // A token of a sample; those before `oldest` have all of theirs.
  void add(std::int64_t sample, std::int32_t token, std::int64_t oldest) {
    while (shown_ < oldest) begin_next();
    const std::string text =
        tokenizer_ == nullptr ? fmt::format("{} ", token) : std::string(tokenizer_->bytes(token));
    if (sample == shown_) return write(characters_.take(text));
    waiting_[static_cast<std::size_t>(sample)] += text;
  }

  void finish() {
    while (shown_ + 1 < static_cast<std::int64_t>(waiting_.size())) begin_next();
    write(characters_.finish() + "\n");
  }

 private:
  void begin_next() {
    write(characters_.finish() + "\n---\n");
    ++shown_;
    write(characters_.take(start_ + std::exchange(waiting_[static_cast<std::size_t>(shown_)], {})));
  }

  static void write(const std::string& text) {
    const std::size_t written = std::fwrite(text.data(), 1, text.size(), stdout);
    if (written != text.size() || std::fflush(stdout) != 0) {
      throw std::system_error(errno, std::generic_category(), "stdout");
    }
  }

  const Tokenizer* tokenizer_;
  std::string start_;  // the prompt
  std::vector<std::string> waiting_;
  std::int64_t shown_ = 0;  // the sample that is written as it is made
  Utf8Stream characters_;
};

struct Times {
  double start = now(), first_token = 0, end = 0;
};

// What there is to say of samples.
struct SampleReport {
  const Options& options;
  const ModelInfo& info;
  const Prompt& prompt;
  const SampleSpec& spec;
  const Tokenizer* tokenizer;
  const std::vector<std::vector<std::int32_t>>& samples;
  Times times;
};

nlohmann::ordered_json to_json(const SampleReport& report) {
  using nlohmann::ordered_json;
  const SampleSpec& spec = report.spec;
  ordered_json list = ordered_json::array();
  std::size_t count = 0;
  for (const std::vector<std::int32_t>& tokens : report.samples) {
    count += tokens.size();
    const bool has_ended = !tokens.empty() && tokens.back() == spec.end;
    list.push_back(
        {{"text", report.tokenizer == nullptr ? ordered_json()
                                              : ordered_json(decode(*report.tokenizer, tokens))},
         {"tokens", tokens},
         {"ended_by", has_ended ? "end_of_text" : "max_tokens"}});
  }
  const double seconds = report.times.end - report.times.start;
  return {{"checkpoint", report.info.path.string()},
          {"prompt", report.prompt.text},
          {"prompt_tokens", spec.prompt.size()},
          {"seed", spec.seed},
          {"temperature", spec.sampler.temperature},
          {"top_k", spec.sampler.top_k},
          {"top_p", spec.sampler.top_p},
          {"kv_cache", report.options.kv_cache},
          {"samples", list},
          {"tokens", count},
          {"seconds", seconds},
          {"seconds_to_first_token", report.times.first_token - report.times.start},
          {"tokens_per_second", static_cast<double>(count) / seconds}};
}

// Positions that a model is to have memory for: those that samples can take, and one for each that
// is made side by side.
std::int64_t positions_of(const SampleSpec& spec, const ModelInfo& info) {
  const auto prompt = static_cast<std::int64_t>(spec.prompt.size());
  return std::min(
      info.config.context,
      std::max(prompt + std::min(spec.max_tokens, info.config.context), kMostSamplesAtOnce));
}

std::unique_ptr<Decoder> make_decoder(const Options& options, LoadedModel& loaded) {
  // As many as the model has memory for: it is made for one sequence of all positions.
  const std::int64_t sequences =
      std::min({options.samples, kMostSamplesAtOnce, loaded.model->options().seq_len});
  if (!options.kv_cache) return std::make_unique<RecomputingDecoder>(*loaded.model, sequences);
  return std::make_unique<CachedDecoder>(*loaded.backend, *loaded.model, sequences);
}

}  // namespace

int sample_command(const Options& options) {
  const Prompt prompt = find_prompt(options);
  const auto source = open_model(options.checkpoint, Weights::in_use);
  const ModelInfo& info = source->info();
  const auto tokenizer = tokenizer_of(info);
  SampleSpec spec{.prompt = tokens_of(prompt, tokenizer.get(), info),
                  .samples = options.samples,
                  .max_tokens = options.max_tokens,
                  .sampler = {.temperature = options.temperature,
                              .top_k = options.top_k,
                              .top_p = options.top_p},
                  .seed = options.seed,
                  .end = std::nullopt};
  if (options.stop_at_end) spec.end = end_of_text(info, tokenizer.get());
  LoadedModel loaded =
      load_model(options, *source, {.micro_batch = 1, .seq_len = positions_of(spec, info)});
  const std::unique_ptr<Decoder> decoder = make_decoder(options, loaded);

  std::optional<Printer> printer;
  if (!options.json) printer.emplace(tokenizer.get(), options.samples, prompt.text);
  std::vector<std::vector<std::int32_t>> samples(static_cast<std::size_t>(options.samples));
  Times times;
  generate(*decoder, spec, [&](std::int64_t sample, std::int32_t token) {
    if (times.first_token == 0) times.first_token = now();
    samples[static_cast<std::size_t>(sample)].push_back(token);
    if (printer) printer->add(sample, token, sample / decoder->sequences() * decoder->sequences());
  });
  times.end = now();
  if (printer) {
    printer->finish();
  } else {
    const auto json = to_json({.options = options,
                               .info = info,
                               .prompt = prompt,
                               .spec = spec,
                               .tokenizer = tokenizer.get(),
                               .samples = samples,
                               .times = times});
    // Bytes that are no UTF-8 have no place in JSON; the tokens tell what they are.
    fmt::print("{}\n", json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  }
  return 0;
}

}  // namespace lathe
