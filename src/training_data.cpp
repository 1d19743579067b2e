#include "lathe/training_data.h"

#include <fmt/format.h>

#include "lathe/error.h"
#include "lathe/story_corpus.h"

namespace lathe {
namespace {

// The embedded stories are the same whatever --seed is, so that runs compare.
constexpr std::uint64_t kTrainStories = 1;
constexpr std::uint64_t kValStories = 2;
constexpr std::int64_t kTrainStoryBytes = 900'000;
constexpr std::int64_t kValStoryBytes = 100'000;

DataFormat parse_format(const std::string& name) {
  if (name == "llmc") return DataFormat::llmc;
  if (name == "nanogpt") return DataFormat::nanogpt;
  if (name == "text") return DataFormat::text;
  return DataFormat::automatic;
}

TokenFiles open_files(const Options& options, const std::vector<std::string>& patterns,
                      const char* option, Split split, std::int64_t vocab) {
  TokenFiles files = TokenFiles::open({.patterns = patterns,
                                       .option = option,
                                       .format = parse_format(options.data_format),
                                       .split = split,
                                       .vocab = vocab});
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
  StoryCorpus stories = make_story_corpus(kTrainStories, kTrainStoryBytes);
  TrainingData data{.train = TokenFiles::from_text(std::move(stories.text), "embedded stories"),
                    .val = validation_stories(),
                    .vocab = 256,
                    .summary = {}};
  data.train.require_sequences(options.seq_len);
  data.val->files.require_sequences(options.seq_len);
  return data;
}

TrainingData given_files(const Options& options) {
  TrainingData data{
      .train = open_files(options, options.train, "--train", Split::whole, options.vocab),
      .val = std::nullopt,
      .vocab = 0,
      .summary = {}};
  const bool splits = options.val.empty() && data.train.is_text();
  if (splits) {
    data.train = open_files(options, options.train, "--train", Split::training, options.vocab);
  }
  data.vocab = options.vocab > 0 ? options.vocab : data.train.natural_vocab();
  if (splits) {
    data.val = {open_files(options, options.train, "--train", Split::validation, data.vocab), {}};
  } else if (!options.val.empty()) {
    data.val = {open_files(options, options.val, "--val", Split::whole, data.vocab), {}};
  }
  return data;
}

}  // namespace

TrainingData open_training_data(const Options& options) {
  TrainingData data = options.train.empty() ? embedded_stories(options) : given_files(options);
  if (options.vocab > 0) data.vocab = options.vocab;
  data.summary =
      fmt::format("train {} | val {}", data.train.summary(),
                  data.val ? data.val->files.summary()
                           : "none: shards without --val are trained without validation");
  return data;
}

ValidationData open_validation_data(const Options& options, std::int64_t vocab) {
  if (options.val.empty()) return validation_stories();
  return {.files = open_files(options, options.val, "--val", Split::whole, vocab), .floor = {}};
}

}  // namespace lathe
