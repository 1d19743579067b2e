// lathe tokenize: text files into a folder of token shards.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <chrono>
#include <nlohmann/json.hpp>

#include "base/number_text.h"
#include "data/text_reader.h"
#include "data/write_dataset.h"
#include "lathe/commands.h"
#include "lathe/error.h"
#include "lathe/stop_signal.h"
#include "lathe/token_files.h"

namespace lathe {
namespace {

using Clock = std::chrono::steady_clock;

DatasetSpec dataset_spec(const Options& options) {
  const bool has_fraction = options.val_fraction >= 0;
  return {.text = text_of_arguments(options, "tokenize", has_fraction ? options.val_fraction : 0),
          .label = fmt::format("tokenize {}", fmt::join(options.paths, " ")),
          .shard_tokens = options.shard_tokens,
          .has_parts = has_fraction,
          .shows_progress = !options.quiet};
}

std::string count_text(std::int64_t count, const char* what) {
  return fmt::format("{} {}{}", grouped(count), what, count == 1 ? "" : "s");
}

std::string part_text(const char* name, const DatasetPart& part) {
  return fmt::format("{} {} in {}", name, count_text(part.tokens, "token"),
                     count_text(part.shards, "shard"));
}

void warn(const Options& options, const Dataset& dataset) {
  if (dataset.val.tokens > dataset.train.tokens) {
    fmt::print(stderr,
               "lathe: warning: more tokens validate than train; a smaller --shard-tokens or "
               "--val-fraction divides them otherwise\n");
  }
  if (options.val_fraction > 0 && dataset.val.tokens == 0) {
    fmt::print(stderr, "lathe: warning: --val-fraction {} of this text is no token\n",
               options.val_fraction);
  }
}

void report(const Options& options, const Dataset& dataset, double seconds) {
  const double bytes_per_second = static_cast<double>(dataset.bytes) / seconds;
  if (options.json) {
    auto json = nlohmann::ordered_json::parse(dataset_text(dataset));
    json["out"] = options.out;
    json["seconds"] = seconds;
    json["bytes_per_second"] = bytes_per_second;
    fmt::print("{}\n", json.dump());
    return;
  }
  fmt::print("{}, {}, {} ({}) in {:.1f} s, {:.1f} MB/s | {} | {} | {}\n",
             count_text(dataset.documents, "document"), count_text(dataset.bytes, "byte"),
             count_text(dataset.train.tokens + dataset.val.tokens, "token"), options.tokenizer,
             seconds, bytes_per_second / 1e6, part_text(kTrainPrefix, dataset.train),
             part_text(kValPrefix, dataset.val), options.out);
}

}  // namespace

int tokenize_command(const Options& options) {
  const DatasetSpec spec = dataset_spec(options);
  const auto tokenizer = open_tokenizer(options.tokenizer);
  tokenizer->make_encoder();  // what cannot encode is refused before anything is made
  const TextReader are_there({.paths = spec.text.paths,  // and so is what is not there
                              .lines = spec.text.lines,
                              .document_separator = spec.text.document_separator,
                              .validation_fraction = spec.text.validation_fraction});
  check_dataset_folder(options.out, options.overwrite);
  watch_stop_signals();
  const Clock::time_point start = Clock::now();
  DatasetWriter writer(options.out, DatasetWriter::WhenLocked::refuse);
  check_dataset_folder(options.out, options.overwrite);  // another process may have been faster
  const std::optional<Dataset> dataset = write_dataset(spec, *tokenizer, writer);
  if (!dataset) {
    fmt::print(stderr, "lathe: stopped by {}; {} is as it was\n", stop_cause(), options.out);
    return stop_exit_code();
  }
  warn(options, *dataset);
  report(options, *dataset, std::chrono::duration<double>(Clock::now() - start).count());
  return 0;
}

}  // namespace lathe
