// Descriptions of text by documents, and of the shards that it was made into.
#include <fmt/format.h>

#include <limits>

#include "describe.h"
#include "lathe/dataset.h"
#include "lathe/run_folder.h"
#include "lathe/shard_writer.h"
#include "lathe/token_files.h"
#include "lathe/tokenize.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

// The shards themselves say whether dataset.json is right about them.
Facts describe_part(const fs::path& folder, const char* prefix, std::int64_t first_number,
                    const DatasetPart& part) {
  std::int64_t tokens = 0;
  for (std::int64_t i = 0; i < part.shards; ++i) {
    const fs::path path = folder / shard_name(prefix, first_number + i);
    tokens += TokenFiles::open({.patterns = {path.string()},
                                .option = "inspect",
                                .format = DataFormat::llmc,
                                .split = Split::whole,
                                .vocab = std::numeric_limits<std::uint16_t>::max() + 1})
                  .tokens();
  }
  if (tokens != part.tokens) {
    throw Error(ExitCode::data,
                fmt::format("{}: says {} tokens of {}, its shards have {}",
                            (folder / kDatasetFile).string(), part.tokens, prefix, tokens));
  }
  return {{"tokens", part.tokens}, {"shards", part.shards}};
}

// Counts what it is given.
class CountingSink final : public TokenSink {
 public:
  void append(std::span<const std::uint16_t> tokens, Part) override {
    tokens_ += std::ssize(tokens);
  }
  void progress(const TokenizeProgress& progress) override { progress_ = progress; }

  std::int64_t tokens() const { return tokens_; }
  const TokenizeProgress& last_progress() const { return progress_; }

 private:
  std::int64_t tokens_ = 0;
  TokenizeProgress progress_;
};

}  // namespace

// Every line is read as `lathe tokenize` would read it.
Facts describe_documents(const fs::path& path) {
  CountingSink sink;
  tokenize({.paths = {path.string()},
            .lines = true,
            .text_field = kDefaultTextField,
            .validation_fraction = 0,
            .threads = 1},
           *byte_tokenizer(), sink);
  return {{"kind", "documents, a JSON object on each line"},
          {"bytes", sink.last_progress().bytes},
          {"documents", sink.last_progress().documents},
          {"text_bytes", sink.tokens()}};
}

Facts describe_token_keys(const fs::path& path) {
  Facts facts = {{"kind", "keys of cached tokens"}};
  for (const auto& [option, key] : RunFolder::token_keys(path.parent_path())) facts[option] = key;
  return facts;
}

Facts describe_dataset(const fs::path& folder) {
  const auto dataset = read_dataset(folder);
  if (!dataset) {
    throw Error(ExitCode::data, fmt::format("{}: has no {}", folder.string(), kDatasetFile));
  }
  return {{"kind", "dataset"},
          {"tokenizer", dataset->tokenizer},
          {"vocab", dataset->vocab},
          {"end_of_text", dataset->end_of_text ? Facts(*dataset->end_of_text) : Facts(nullptr)},
          {"bytes", dataset->bytes},
          {"documents", dataset->documents},
          {"sources", dataset->sources},
          {"train", describe_part(folder, kTrainPrefix, kFirstTrainShard, dataset->train)},
          {"val", describe_part(folder, kValPrefix, kFirstValShard, dataset->val)}};
}

}  // namespace lathe
