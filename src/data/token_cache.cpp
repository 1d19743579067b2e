#include "token_cache.h"

#include <fmt/format.h>

#include <chrono>
#include <span>

#include "base/number_text.h"
#include "lathe/bpe.h"
#include "lathe/error.h"
#include "lathe/stop_signal.h"
#include "tokenizer/unicode.h"
#include "write_dataset.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr std::int64_t kShardTokens = std::int64_t{1} << 30;

// A checksum of values one after another, none of which can be taken for a part of its neighbour.
class Key {
 public:
  void add(std::string_view text) {
    add(static_cast<std::uint64_t>(text.size()));
    checksum_.update(std::as_bytes(std::span(text)));
  }
  void add(std::uint64_t value) { checksum_.update(std::as_bytes(std::span(&value, 1))); }
  std::string text() const { return fmt::format("{:016x}", checksum_.value()); }

 private:
  Checksum checksum_;
};

void add(Key& key, const Tokenizer& tokenizer) {
  key.add(saved_tokenizer_name(tokenizer));
  key.add(unicode_version());  // which characters are letters decides where words end
  const BpeVocabulary* vocabulary = bpe_vocabulary(tokenizer);
  if (vocabulary == nullptr) return;
  key.add(std::uint64_t{vocabulary->tokens.size()});
  for (const std::string& token : vocabulary->tokens) key.add(token);
  key.add(std::uint64_t{vocabulary->merges.size()});
  for (const BpeMerge& merge : vocabulary->merges) {
    key.add(static_cast<std::uint64_t>(merge.left));
    key.add(static_cast<std::uint64_t>(merge.right));
  }
  key.add(static_cast<std::uint64_t>(vocabulary->end_of_text.value_or(-1)));
}

// All that decides what the tokens are.
std::string key_of(const TextSpec& text, const Tokenizer& tokenizer) {
  Key key;
  key.add("tokens of lathe 1");
  add(key, tokenizer);
  key.add(text.text_field);
  key.add(text.document_separator);
  key.add(fmt::format("{}", text.validation_fraction));
  for (const std::string& path : text.paths) {
    const FileDigest digest = digest_file(InputFile(path, ExitCode::data));
    key.add(std::uint64_t{has_json_lines(text, path)});
    key.add(digest.bytes);
    key.add(digest.xxh3);
  }
  return key.text();
}

std::optional<CachedTokens> find(const std::string& key, const CacheSpec& spec,
                                 const Tokenizer& tokenizer) {
  const fs::path folder = spec.folder / key;
  const std::optional<Dataset> dataset = read_dataset(folder);
  if (!dataset) return std::nullopt;
  return CachedTokens{.key = key,
                      .folder = folder,
                      .dataset = *dataset,
                      .message = fmt::format("{}: its {} tokens ({}) are in {}", spec.label,
                                             grouped(dataset->train.tokens + dataset->val.tokens),
                                             tokenizer.name(), folder.string())};
}

[[noreturn]] void stop(const CacheSpec& spec, const std::string& what) {
  throw Error(static_cast<ExitCode>(stop_exit_code()),
              fmt::format("{}: stopped by {}{}", spec.label, stop_cause(), what));
}

CachedTokens make(const std::string& key, const CacheSpec& spec, const Tokenizer& tokenizer) {
  constexpr const char* kNothing = " while it was tokenised; nothing is kept";
  const fs::path folder = spec.folder / key;
  const Clock::time_point start = Clock::now();
  DatasetWriter writer(folder, DatasetWriter::WhenLocked::wait);
  if (writer.staging().empty()) stop(spec, kNothing);
  if (auto found = find(key, spec, tokenizer)) return *std::move(found);
  if (!spec.is_quiet) {
    fmt::print("{}: tokenising ({}) into {}\n", spec.label, tokenizer.name(), folder.string());
    std::fflush(stdout);
  }
  const auto dataset = write_dataset({.text = spec.text,
                                      .label = spec.label,
                                      .shard_tokens = kShardTokens,
                                      .has_parts = true,
                                      .shows_progress = !spec.is_quiet},
                                     tokenizer, writer);
  if (!dataset) stop(spec, kNothing);
  CachedTokens made = find(key, spec, tokenizer).value();
  made.message += fmt::format(", tokenised in {:.1f} s",
                              std::chrono::duration<double>(Clock::now() - start).count());
  return made;
}

}  // namespace

fs::path default_token_cache(const fs::path& run) {
  const fs::path folder = (run / "").lexically_normal();
  const bool has_parent = *folder.begin() != "." && *folder.begin() != "..";
  const fs::path whole = has_parent ? folder : fs::absolute(folder).lexically_normal();
  return whole.parent_path().parent_path() / "token-cache";
}

std::optional<CachedTokens> find_tokens(const CacheSpec& spec, const Tokenizer& tokenizer) {
  return find(key_of(spec.text, tokenizer), spec, tokenizer);
}

CachedTokens find_or_make_tokens(const CacheSpec& spec, const Tokenizer& tokenizer) {
  const std::string key = key_of(spec.text, tokenizer);
  if (!spec.expected_key.empty() && key != spec.expected_key) {
    throw Error(
        ExitCode::data,
        fmt::format("{}: has changed since the run began, as its tokens.json shows; restore "
                    "it, or start another run",
                    spec.label));
  }
  if (auto found = find(key, spec, tokenizer)) return *std::move(found);
  std::optional<CachedTokens> made;
  {
    const StopSignalWatch watch;
    made = make(key, spec, tokenizer);
  }
  if (is_stop_requested()) {  // it came when there was no more text to read
    stop(spec, fmt::format("; its tokens are kept in {}", made->folder.string()));
  }
  return *std::move(made);
}

}  // namespace lathe
