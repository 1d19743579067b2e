// lathe train-tokenizer: text files into a tokenizer.
#include <fmt/format.h>

#include <chrono>
#include <mutex>
#include <nlohmann/json.hpp>

#include "base/file_kind.h"
#include "base/number_text.h"
#include "data/progress_bar.h"
#include "data/write_dataset.h"
#include "lathe/bpe.h"
#include "lathe/commands.h"
#include "lathe/error.h"
#include "lathe/files.h"
#include "lathe/stop_signal.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

// Of all threads.
struct SharedCounts {
  std::mutex adding;
  WordCounts counts;
};

class WordCounter final : public Encoder {
 public:
  explicit WordCounter(SharedCounts& shared) : shared_(shared) {}
  ~WordCounter() override {
    const std::lock_guard lock(shared_.adding);
    for (const auto& [word, count] : counts_) shared_.counts[word] += count;
  }
  void encode(std::string_view text, std::vector<std::int32_t>&) override {
    count_words(text, counts_);
  }

 private:
  SharedCounts& shared_;
  WordCounts counts_;
};

// Counts words in the place where others encode them: so files are read, and shared by threads, as
// `lathe tokenize` does it.
class CountingTokenizer final : public Tokenizer {
 public:
  explicit CountingTokenizer(SharedCounts& shared) : shared_(shared) {}

  std::string name() const override { return "words"; }
  std::int64_t vocab() const override { return 0; }
  std::int32_t first_token() const override { return 0; }
  std::optional<std::int32_t> end_of_text() const override { return std::nullopt; }
  std::string_view bytes(std::int32_t) const override { return {}; }
  std::unique_ptr<Encoder> make_encoder() const override {
    return std::make_unique<WordCounter>(shared_);
  }

 private:
  SharedCounts& shared_;
};

// Sees no tokens, only how far the reading is.
class Watcher final : public TokenSink {
 public:
  explicit Watcher(bool wanted) : bar_(wanted) {}

  void append(std::span<const std::uint16_t>, Part) override {}
  void progress(const TokenizeProgress& progress) override {
    bytes_ = progress.bytes;
    if (!bar_.is_due()) return;
    std::optional<double> done;
    if (progress.bytes_in_all) {
      done = static_cast<double>(bytes_) / static_cast<double>(*progress.bytes_in_all);
    }
    bar_.show(done, fmt::format("{} | counting words", megabytes_text(bytes_)));
  }
  std::int64_t bytes() const { return bytes_; }

 private:
  ProgressBar bar_;
  std::int64_t bytes_ = 0;
};

// Refuses to replace what has the name of a tokenizer's file and is something else.
void require_tokenizer_files(const fs::path& folder) {
  const auto refuse = [&](const char* name) {
    throw Error(ExitCode::usage, fmt::format("--out {}: holds {}, which is no file of a tokenizer; "
                                             "give another folder, or move it away",
                                             folder.string(), name));
  };
  const auto is_there = [&](const char* name) {
    std::error_code ignored;
    return fs::exists(folder / name, ignored);
  };
  for (const char* name :
       {"vocab.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"}) {
    if (!is_there(name)) continue;
    const std::string text = read_file(folder / name, ExitCode::usage);
    if (!nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false).is_object()) refuse(name);
  }
  const char* merges = "merges.txt";
  if (is_there(merges) && !read_file(folder / merges, ExitCode::usage).starts_with("#version")) {
    refuse(merges);
  }
}

void check_folder(const Options& options) {
  std::error_code error;
  if (fs::exists(options.out, error) && !fs::is_directory(options.out, error)) {
    throw Error(ExitCode::usage, fmt::format("--out {}: is no folder", options.out));
  }
  if (fs::is_directory(options.out, error) && !fs::is_empty(options.out, error) &&
      !options.overwrite) {
    throw Error(ExitCode::usage,
                fmt::format("--out {}: holds something; give another folder, or --overwrite to "
                            "replace the tokenizer in it",
                            options.out));
  }
}

void make_folder(const Options& options) {
  std::error_code error;
  fs::create_directories(options.out, error);
  if (error) {
    throw Error(ExitCode::storage,
                fmt::format("{}: cannot create folder: {}", options.out, error.message()));
  }
}

struct Learned {
  std::int64_t bytes, distinct_words, vocab, merges;
  double seconds;
};

void report(const Options& options, const Learned& learned) {
  if (learned.vocab < options.vocab) {
    fmt::print(stderr,
               "lathe: warning: {} tokens, not {}: no two tokens stand side by side twice any "
               "more; more text has more\n",
               learned.vocab, options.vocab);
  }
  if (options.json) {
    fmt::print("{}\n", nlohmann::ordered_json{{"out", options.out},
                                              {"bytes", learned.bytes},
                                              {"distinct_words", learned.distinct_words},
                                              {"vocab", learned.vocab},
                                              {"merges", learned.merges},
                                              {"seconds", learned.seconds}}
                           .dump());
    return;
  }
  fmt::print("{} tokens ({} merges) from {} bytes, {} distinct words in {:.1f} s | {}\n",
             grouped(learned.vocab), grouped(learned.merges), grouped(learned.bytes),
             grouped(learned.distinct_words), learned.seconds, options.out);
}

}  // namespace

int train_tokenizer_command(const Options& options) {
  const TextSpec text = text_of_arguments(options, "train-tokenizer", /*validation_fraction=*/0);
  learn_bpe({}, options.vocab);  // a size that cannot be is refused before anything is read
  require_no_other(FolderKind::tokenizer, options.out);
  if (options.overwrite) require_tokenizer_files(options.out);
  check_folder(options);
  const Clock::time_point start = Clock::now();
  SharedCounts words;
  Watcher watcher(!options.quiet);
  {
    const StopSignalWatch
        watch;  // of what tells of it; while merges are learned, a signal just ends
    tokenize(text, CountingTokenizer(words), watcher);
  }
  if (is_stop_requested()) {
    fmt::print(stderr, "lathe: stopped by {}; {} is as it was\n", stop_cause(), options.out);
    return stop_exit_code();
  }
  const BpeVocabulary learned = learn_bpe(words.counts, options.vocab);
  const auto tokenizer = bpe_tokenizer(learned, options.out);
  make_folder(options);
  write_tokenizer_files(*tokenizer, options.out);
  report(options, {.bytes = watcher.bytes(),
                   .distinct_words = std::ssize(words.counts),
                   .vocab = tokenizer->vocab(),
                   .merges = std::ssize(learned.merges),
                   .seconds = std::chrono::duration<double>(Clock::now() - start).count()});
  return 0;
}

}  // namespace lathe
