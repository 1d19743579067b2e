#include "write_dataset.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/number_text.h"
#include "lathe/backend.h"
#include "lathe/error.h"
#include "lathe/token_files.h"
#include "progress_bar.h"

namespace lathe {
namespace {

using Clock = std::chrono::steady_clock;

class Watcher {
 public:
  explicit Watcher(bool wanted) : bar_(wanted) {}

  void show(const TokenizeProgress& progress) {
    if (!bar_.is_due()) return;
    const auto bytes = static_cast<double>(progress.bytes);
    const double rate = bytes / std::chrono::duration<double>(Clock::now() - started_).count();
    std::string facts =
        fmt::format("{} | {} documents | {:.1f} MB/s", megabytes_text(progress.bytes),
                    grouped(progress.documents), rate / 1e6);
    if (!progress.bytes_in_all) return bar_.show(std::nullopt, facts);
    const auto all = static_cast<double>(*progress.bytes_in_all);
    bar_.show(bytes / all, facts + fmt::format(" | eta {}", duration_text((all - bytes) / rate)));
  }

 private:
  ProgressBar bar_;
  Clock::time_point started_ = Clock::now();
};

}  // namespace

TextSpec text_spec(const Options& options, std::vector<std::string> paths,
                   double validation_fraction) {
  std::optional<bool> lines;
  if (options.data_format == "text") lines = false;
  if (options.data_format == "jsonl") lines = true;
  const std::int64_t threads = options.threads > 0 ? options.threads : available_threads();
  return {.paths = std::move(paths),
          .lines = lines,
          .text_field = options.text_field,
          .document_separator = options.document_separator,
          .validation_fraction = validation_fraction,
          .threads = static_cast<int>(threads)};
}

TextSpec text_of_arguments(const Options& options, const std::string& command,
                           double validation_fraction) {
  if (options.data_format == "llmc" || options.data_format == "nanogpt") {
    throw Error(ExitCode::usage,
                fmt::format("--data-format {}: are tokens already; lathe {} reads text and jsonl",
                            options.data_format, command));
  }
  if (std::ranges::count(options.paths, "-") > 1) {
    throw Error(ExitCode::usage,
                fmt::format("{}: - is given twice; stdin can be read once", command));
  }
  std::vector<std::string> paths;
  for (const std::string& pattern : options.paths) {
    const std::vector<std::string> found =
        pattern == "-" ? std::vector{pattern} : matching_files(command, pattern);
    paths.insert(paths.end(), found.begin(), found.end());
  }
  return text_spec(options, std::move(paths), validation_fraction);
}

std::optional<Dataset> write_dataset(const DatasetSpec& spec, const Tokenizer& tokenizer,
                                     DatasetWriter& writer) {
  Watcher watcher(spec.shows_progress);
  ShardSink sink(
      {.folder = writer.staging(), .shard_tokens = spec.shard_tokens, .has_parts = spec.has_parts},
      [&](const TokenizeProgress& progress) { watcher.show(progress); });
  if (!tokenize(spec.text, tokenizer, sink)) return std::nullopt;
  sink.finish();
  Dataset dataset = describe_dataset(spec.text, tokenizer, sink);
  if (dataset.train.tokens + dataset.val.tokens == 0) {
    throw Error(ExitCode::data, spec.label + ": holds no text");
  }
  writer.commit(dataset, tokenizer);
  return dataset;
}

}  // namespace lathe
