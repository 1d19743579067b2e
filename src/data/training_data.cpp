#include "lathe/training_data.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <exception>
#include <nlohmann/json.hpp>

#include "lathe/dataset.h"
#include "lathe/error.h"
#include "lathe/shard_writer.h"
#include "lathe/stop_signal.h"
#include "lathe/story_corpus.h"
#include "token_cache.h"
#include "tokenizer/known_tokenizer.h"
#include "write_dataset.h"

namespace lathe {
namespace {

// The embedded stories are the same whatever --seed is, so that runs compare.
constexpr std::uint64_t kTrainStories = 1;
constexpr std::uint64_t kValStories = 2;
constexpr std::int64_t kTrainStoryBytes = 900'000;
constexpr std::int64_t kValStoryBytes = 100'000;

constexpr double kValidationFraction = 0.1;  // of a text; of bytes, Split says so too

DataFormat parse_format(const std::string& name) {
  if (name == "llmc") return DataFormat::llmc;
  if (name == "nanogpt") return DataFormat::nanogpt;
  if (name == "text") return DataFormat::text;
  return DataFormat::automatic;
}

TokenFiles open_files(const Options& options, const std::vector<std::string>& patterns,
                      const std::string& option, Split split, std::int64_t vocab) {
  TokenFiles files = TokenFiles::open(
      {.patterns = patterns,
       .option = option,
       .format = parse_format(options.data_format),
       .split = split,
       .vocab = vocab,
       .is_vocab_of_model = !options.checkpoint.empty() || !options.init_from.empty()});
  files.require_sequences(options.seq_len);
  files.check_tokens();
  return files;
}

ValidationData validation_stories() {
  StoryCorpus stories = make_story_corpus(kValStories, kValStoryBytes);
  return {.files = TokenFiles::from_text(std::move(stories.text), "embedded stories"),
          .floor = std::move(stories.nats)};
}

TrainingData embedded_stories(const Options& options) {
  if (!options.val.empty()) {
    throw Error(ExitCode::usage,
                fmt::format("--val {}: goes with --train, which is missing", options.val.front()));
  }
  if (options.tokenizer != "bytes") {
    throw Error(ExitCode::usage,
                fmt::format("--tokenizer {}: goes with --train, which is missing: the embedded "
                            "stories are bytes",
                            options.tokenizer));
  }
  StoryCorpus stories = make_story_corpus(kTrainStories, kTrainStoryBytes);
  TrainingData data{.train = TokenFiles::from_text(std::move(stories.text), "embedded stories"),
                    .val = validation_stories(),
                    .vocab = 256,
                    .is_text = true,
                    .tokenizer_name = "bytes",
                    .tokenizer = byte_tokenizer(),
                    .summary = {},
                    .messages = {},
                    .token_keys = {}};
  data.train.require_sequences(options.seq_len);
  data.val->files.require_sequences(options.seq_len);
  return data;
}

// The shards of a dataset's part that the option is for.
std::vector<std::string> shards_of(const std::string& option, const std::string& folder,
                                   const Dataset& dataset) {
  const bool trains = option == "--train";
  const char* prefix = trains ? kTrainPrefix : kValPrefix;
  const std::int64_t first = trains ? kFirstTrainShard : kFirstValShard;
  const std::int64_t count = trains ? dataset.train.shards : dataset.val.shards;
  if (count == 0) {
    throw Error(ExitCode::data,
                fmt::format("{} {}: this dataset has no {} shards", option, folder, prefix));
  }
  std::vector<std::string> paths;
  for (std::int64_t i = 0; i < count; ++i) {
    paths.push_back((std::filesystem::path(folder) / shard_name(prefix, first + i)).string());
  }
  return paths;
}

// The files of a set, in the order of reading. The folder of a dataset stands for its shards.
std::vector<std::string> files_of(const char* option, const std::vector<std::string>& patterns) {
  std::vector<std::string> paths;
  for (const std::string& pattern : patterns) {
    for (const std::string& path : matching_files(option, pattern)) {
      if (const auto dataset = read_dataset(path)) {
        const auto shards = shards_of(option, path, *dataset);
        paths.insert(paths.end(), shards.begin(), shards.end());
      } else {
        paths.push_back(path);
      }
    }
  }
  return paths;
}

bool is_text(const Options& options, const std::string& path) {
  if (options.data_format != "auto") {
    return options.data_format == "text" || options.data_format == "jsonl";
  }
  return has_text_ending(path) || has_json_lines(text_spec(options, {}, 0), path);
}

// Whether files are text whose tokens are not its bytes one by one.
bool is_to_be_tokenized(const Options& options, const Tokenizer* tokenizer, const char* option,
                        const std::vector<std::string>& paths) {
  const bool is_text_set = is_text(options, paths.front());
  bool has_lines = false;
  for (const std::string& path : paths) {
    has_lines |= has_json_lines(text_spec(options, {}, 0), path);
    if (is_text(options, path) == is_text_set) continue;
    throw Error(ExitCode::data,
                fmt::format("{}: {} and {} mix text and token shards; give files of one kind",
                            option, paths.front(), path));
  }
  if (!is_text_set) return false;
  if (tokenizer == nullptr) {
    throw Error(ExitCode::data,
                fmt::format("{} {}: is text, and the tokenizer of the shards is not "
                            "known; --tokenizer says it",
                            option, paths.front()));
  }
  return tokenizer->name() != "bytes" || has_lines || !options.document_separator.empty();
}

CacheSpec cache_spec(const Options& options, const char* option, std::vector<std::string> paths,
                     double validation_fraction, const DataOrigin& origin) {
  const auto expected = origin.token_keys.find(option);
  const std::string label = fmt::format("{} {}", option, fmt::join(paths, " "));
  return {.text = text_spec(options, std::move(paths), validation_fraction),
          .folder = options.token_cache.empty() ? default_token_cache(options.out)
                                                : std::filesystem::path(options.token_cache),
          .label = label,
          .expected_key = expected == origin.token_keys.end() ? "" : expected->second,
          .is_quiet = options.quiet};
}

// One part of cached tokens.
TokenFiles open_part(const Options& options, const CacheSpec& spec, const CachedTokens& cached,
                     Part part) {
  const bool trains = part == Part::training;
  const DatasetPart& counts = trains ? cached.dataset.train : cached.dataset.val;
  if (counts.shards == 0) {
    throw Error(ExitCode::data, fmt::format("{}: {}", spec.label,
                                            trains ? "holds no text"
                                                   : "is too short for a tenth of it to validate"));
  }
  const std::string prefix = trains ? kTrainPrefix : kValPrefix;
  const std::int64_t first_number = trains ? kFirstTrainShard : kFirstValShard;
  std::vector<std::string> paths;
  for (std::int64_t i = 0; i < counts.shards; ++i) {
    paths.push_back((cached.folder / shard_name(prefix, first_number + i)).string());
  }
  Options shards = options;
  shards.data_format = "llmc";
  const std::int64_t vocab = options.vocab > 0 ? options.vocab : cached.dataset.vocab;
  return open_files(shards, paths, spec.label + " as", Split::whole, vocab);
}

// What --train and --val name.
struct Files {
  std::vector<std::string> train, val;
};

KnownTokenizer find_tokenizer(const Options& options, const Files& files,
                              const std::string& tokenizer) {
  if (is_text(options, files.train.front())) return tokenizer_of_text(tokenizer);
  std::vector<std::string> shards = files.train;
  for (const std::string& path : files.val) {
    if (!is_text(options, path)) shards.push_back(path);
  }
  return tokenizer_of_shards(shards, tokenizer);
}

void open_train(const Options& options, const Files& files, const DataOrigin& origin,
                TrainingData& data) {
  const bool splits = files.val.empty() && is_text(options, files.train.front());
  const auto validation = [&](TokenFiles tokens) {
    data.val = {.files = std::move(tokens), .floor = {}};
  };
  if (is_to_be_tokenized(options, data.tokenizer.get(), "--train", files.train)) {
    const CacheSpec spec =
        cache_spec(options, "--train", files.train, splits ? kValidationFraction : 0, origin);
    const CachedTokens cached = find_or_make_tokens(spec, *data.tokenizer);
    data.train = open_part(options, spec, cached, Part::training);
    if (splits) validation(open_part(options, spec, cached, Part::validation));
    data.messages.push_back(cached.message);
    data.token_keys["--train"] = cached.key;
  } else {
    data.train = open_files(options, files.train, "--train",
                            splits ? Split::training : Split::whole, data.vocab);
    if (splits) {
      validation(open_files(options, files.train, "--train", Split::validation, data.vocab));
    }
  }
  data.vocab = data.train.vocab();
}

void open_val(const Options& options, const Files& files, const DataOrigin& origin,
              TrainingData& data) {
  if (!is_to_be_tokenized(options, data.tokenizer.get(), "--val", files.val)) {
    data.val = {.files = open_files(options, files.val, "--val", Split::whole, data.vocab),
                .floor = {}};
    return;
  }
  const CacheSpec spec = cache_spec(options, "--val", files.val, 0, origin);
  if (!origin.may_tokenize && !find_tokens(spec, *data.tokenizer)) return;
  const CachedTokens cached = find_or_make_tokens(spec, *data.tokenizer);
  data.val = {.files = open_part(options, spec, cached, Part::training), .floor = {}};
  data.messages.push_back(cached.message);
  data.token_keys["--val"] = cached.key;
}

TrainingData given_files(const Options& options, const DataOrigin& origin) {
  Files files{.train = files_of("--train", options.train), .val = {}};
  if (!options.val.empty()) files.val = files_of("--val", options.val);
  const KnownTokenizer known = find_tokenizer(options, files, origin.tokenizer);
  TrainingData data{.train = {},
                    .val = std::nullopt,
                    .vocab = options.vocab > 0 ? options.vocab : known.vocab,
                    .is_text = is_text(options, files.train.front()),
                    .tokenizer_name = known.name,
                    .tokenizer = known.tokenizer,
                    .summary = {},
                    .messages = {},
                    .token_keys = {}};
  if (!options.init_from.empty() && known.vocab > options.vocab) {
    throw Error(ExitCode::usage,
                fmt::format("--init-from {}: knows {} tokens, too few for the {} of tokenizer {}; "
                            "leave out --tokenizer, or give data of the model's tokens",
                            options.init_from, options.vocab, known.vocab, known.name));
  }
  if (!known.message.empty()) data.messages.push_back(known.message);
  open_train(options, files, origin, data);
  if (!files.val.empty()) open_val(options, files, origin, data);
  return data;
}

// Tokens of a text from its start, until there are enough or it ends.
std::vector<std::uint16_t> first_tokens(const TextSpec& text, const Tokenizer& tokenizer,
                                        std::int64_t enough) {
  struct HasEnough : std::exception {};  // the one way to end tokenize() early
  class Sink final : public TokenSink {
   public:
    explicit Sink(std::int64_t most) : enough_(most) {}
    void append(std::span<const std::uint16_t> tokens, Part) override {
      tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
      if (std::ssize(tokens_) >= enough_) throw HasEnough();
    }
    void progress(const TokenizeProgress&) override {}
    std::vector<std::uint16_t> take() { return std::move(tokens_); }

   private:
    std::int64_t enough_;
    std::vector<std::uint16_t> tokens_;
  };
  Sink sink(enough);
  try {
    if (!tokenize(text, tokenizer, sink)) require_no_stop("--val, while it was tokenised");
  } catch (const HasEnough&) {
    return sink.take();
  }
  return sink.take();
}

KnownTokenizer tokenizer_of_model(const ValidationSpec& spec) {
  KnownTokenizer known{
      .name = spec.tokenizer_name, .tokenizer = nullptr, .vocab = spec.vocab, .message = {}};
  if (known.name == "none") return known;
  try {  // an alias of what the caller owns
    known.tokenizer = {std::shared_ptr<const Tokenizer>(), &spec.tokenizer()};
  } catch (const Error&) {  // not on this machine, and only that name says which it is
    if (known.name != "gpt2") known.name = "none";
  }
  return known;
}

}  // namespace

TrainingData open_training_data(const Options& options, const DataOrigin& origin) {
  TrainingData data =
      options.train.empty() ? embedded_stories(options) : given_files(options, origin);
  if (options.vocab > 0) data.vocab = options.vocab;
  data.summary =
      fmt::format("train {} | val {}", data.train.summary(),
                  data.val ? data.val->files.summary()
                           : "none: shards without --val are trained without validation");
  return data;
}

std::optional<std::int64_t> vocab_of_new_text(const Options& options) {
  if (options.train.empty()) return std::nullopt;
  const std::vector<std::string> paths = files_of("--train", options.train);
  if (!is_text(options, paths.front())) return std::nullopt;
  const auto tokenizer = open_tokenizer(options.tokenizer);
  if (!is_to_be_tokenized(options, tokenizer.get(), "--train", paths)) return std::nullopt;
  const CacheSpec spec =
      cache_spec(options, "--train", paths, options.val.empty() ? kValidationFraction : 0, {});
  if (find_tokens(spec, *tokenizer)) return std::nullopt;
  return tokenizer->vocab();
}

ValidationData open_validation_data(const Options& options, const ValidationSpec& spec) {
  if (options.val.empty()) return validation_stories();
  const std::vector<std::string> paths = files_of("--val", options.val);
  if (is_text(options, paths.front())) {
    const Tokenizer& tokenizer = spec.tokenizer();
    if (is_to_be_tokenized(options, &tokenizer, "--val", paths)) {
      const std::string label = fmt::format("--val {}", fmt::join(paths, " "));
      TokenFiles files = TokenFiles::from_tokens(
          first_tokens(text_spec(options, paths, 0), tokenizer, spec.tokens), label, spec.vocab);
      files.require_sequences(options.seq_len);
      files.check_tokens();
      return {.files = std::move(files), .floor = {}};
    }
  }
  if (!is_text(options, paths.front())) require_tokens_of(tokenizer_of_model(spec), paths);
  return {.files = open_files(options, paths, "--val", Split::whole, spec.vocab), .floor = {}};
}

}  // namespace lathe
