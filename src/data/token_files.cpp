// Opening is where a file proves itself: what passes here can be read to its end, and only its
// tokens' values are left to check. Reading goes through ByteSource, which says why not mmap.
#include "lathe/token_files.h"

#include <fmt/format.h>
#include <glob.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "base/number_text.h"
#include "byte_source.h"
#include "evaluation_file_format.h"
#include "lathe/error.h"
#include "lathe/gpt2_tokens.h"
#include "lathe/stop_signal.h"
#include "model_files/llmc_model.h"
#include "refuse_data.h"
#include "shard_format.h"
#include "tokenizer/llmc_tokenizer.h"

namespace lathe {

static_assert(std::endian::native == std::endian::little, "token files are little-endian");

namespace {

constexpr std::int64_t kTextVocab = 256;
constexpr std::size_t kChunkBytes = 16384;  // read and widened at a time, on the stack

DataFormat format_of(const std::string& path, DataFormat asked, const std::string& label) {
  if (asked != DataFormat::automatic) return asked;
  if (has_text_ending(path)) return DataFormat::text;
  if (path.ends_with(".bin")) return DataFormat::llmc;
  refuse(label,
         "ends in neither .txt nor .md (text) nor .bin (llm.c shard); --data-format text, llmc or "
         "nanogpt says what it is");
}

// What a number at the start of a file says the file is, when it is no shard of ours.
std::string identify(std::int32_t magic) {
  constexpr std::int32_t kLlama3ShardMagic = 20240801;
  const auto other = [&](const char* kind) {
    return fmt::format("is an llm.c {} (magic {}), not a token shard ({})", kind, magic,
                       ShardHeader::kMagic);
  };
  switch (magic) {
    case kLlama3ShardMagic:
      return fmt::format(
          "is a shard of 32-bit Llama tokens (magic {}); Lathe reads 16-bit GPT-2 tokens (magic "
          "{})",
          magic, ShardHeader::kMagic);
    case LlmcHeader::kMagic:
      return other("model checkpoint");
    case kLlmcTokenizerMagic:
      return other("tokenizer");
    case EvaluationHeader::kMagic:
      return other("evaluation file");
    default:
      return fmt::format(
          "starts with {}, not with the magic of an llm.c shard, {}; if it is raw 16-bit tokens, "
          "say --data-format nanogpt",
          magic, ShardHeader::kMagic);
  }
}

// Checks an llm.c shard's header against its file and returns the number of tokens.
std::int64_t read_header(const ByteSource& bytes, const std::string& label) {
  std::array<std::int32_t, 3> header{};
  const std::int64_t readable = std::min<std::int64_t>(bytes.size(), sizeof header);
  bytes.read(0, std::as_writable_bytes(std::span(header)).first(static_cast<std::size_t>(readable)),
             label);
  const auto [magic, version, tokens] = header;
  if (readable >= 4 && magic != ShardHeader::kMagic) refuse(label, "{}", identify(magic));
  if (bytes.size() < ShardHeader::kBytes) {
    refuse(label, "has {} bytes; the header of an llm.c shard alone has {}", bytes.size(),
           ShardHeader::kBytes);
  }
  if (version != ShardHeader::kVersion) {
    refuse(label, "is an llm.c shard of version {}; Lathe reads version {}", version,
           ShardHeader::kVersion);
  }
  if (tokens < 0) {
    refuse(label, "its header says {} tokens; a shard has between 0 and 2147483647", tokens);
  }
  const std::int64_t expected = ShardHeader::kBytes + 2 * std::int64_t{tokens};
  if (bytes.size() != expected) {
    refuse(label, "its header says {} tokens, which take {} bytes, but it has {}; {}", tokens,
           expected, bytes.size(),
           bytes.size() < expected ? "it may be cut short" : "it may not be a shard");
  }
  return tokens;
}

std::int64_t count_raw_tokens(const ByteSource& bytes, const std::string& label) {
  if (bytes.size() % 2 != 0) {
    refuse(label, "has {} bytes; 16-bit tokens (--data-format nanogpt) take an even number",
           bytes.size());
  }
  std::array<std::int32_t, 2> start{};
  if (bytes.size() >= ShardHeader::kBytes) {
    bytes.read(0, std::as_writable_bytes(std::span(start)), label);
    if (start == std::array{ShardHeader::kMagic, ShardHeader::kVersion}) {
      refuse(label, "has the header of an llm.c shard; say --data-format llmc");
    }
  }
  return bytes.size() / 2;
}

// The bytes [begin, end) of a text of `size` bytes that a split is.
std::pair<std::int64_t, std::int64_t> split_range(std::int64_t size, Split split) {
  const std::int64_t boundary = size / 10 * 9 + size % 10 * 9 / 10;
  switch (split) {
    case Split::training:
      return {0, boundary};
    case Split::validation:
      return {boundary, size};
    case Split::whole:
      break;
  }
  return {0, size};
}

// Widens tokens and returns the largest.
template <class Stored>
std::int32_t widen(std::span<const std::byte> bytes, std::int32_t* out) {
  std::int32_t largest = 0;
  for (std::size_t i = 0; i < bytes.size() / sizeof(Stored); ++i) {
    Stored token;
    std::memcpy(&token, bytes.data() + i * sizeof(Stored), sizeof(Stored));
    out[i] = token;
    largest = std::max(largest, out[i]);
  }
  return largest;
}

}  // namespace

bool has_text_ending(const std::string& path) {
  return path.ends_with(".txt") || path.ends_with(".md");
}

std::vector<std::string> matching_files(const std::string& option, const std::string& pattern) {
  std::error_code error;
  const auto status = std::filesystem::symlink_status(pattern, error);
  if (std::filesystem::exists(status)) return {pattern};
  glob_t matches{};
  std::vector<std::string> paths;
  if (::glob(pattern.c_str(), GLOB_NOSORT, nullptr, &matches) == 0) {
    paths.assign(matches.gl_pathv, matches.gl_pathv + matches.gl_pathc);
  }
  ::globfree(&matches);
  if (paths.empty()) {
    const std::string label = fmt::format("{} '{}'", option, pattern);
    if (status.type() == std::filesystem::file_type::none) {  // neither there nor absent
      refuse(label, "cannot be opened: {}", error.message());
    }
    const bool relative = std::filesystem::path(pattern).is_relative();
    refuse(label, "no file matches{}",
           relative ? fmt::format(" in {}", std::filesystem::current_path(error).string()) : "");
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

TokenFiles TokenFiles::open(const TokenFilesSpec& spec) {
  if (spec.patterns.empty()) {
    throw Error(ExitCode::usage, spec.option + ": needs a file, or a pattern such as 'data/*.bin'");
  }
  TokenFiles files;
  files.label_ = spec.option;
  std::string first_path;
  for (const std::string& pattern : spec.patterns) {
    files.label_ += " " + pattern;
    for (const std::string& path : matching_files(spec.option, pattern)) {
      const std::string label = spec.option + " " + path;
      auto bytes = open_bytes(path, label);
      const DataFormat format = format_of(path, spec.format, label);
      if (files.shards_.empty()) {
        first_path = path;
        files.format_ = format;
      } else if (format != files.format_) {
        refuse(spec.option, "{} and {} mix text and token shards; give files of one kind",
               first_path, path);
      }
      files.shards_.push_back(make_shard(label, std::move(bytes), format, spec.split));
    }
  }
  if (files.is_text() && spec.split == Split::validation) files.label_ += " (the last tenth)";
  files.vocab_ = spec.vocab != 0 ? spec.vocab : files.natural_vocab();
  files.is_vocab_of_model_ = spec.is_vocab_of_model;
  return files;
}

TokenFiles::Shard TokenFiles::make_shard(const std::string& label,
                                         std::shared_ptr<const ByteSource> bytes, DataFormat format,
                                         Split split) {
  Shard shard{.label = label, .bytes = std::move(bytes), .offset = 0, .tokens = 0};
  if (format == DataFormat::text) {
    const auto [begin, end] = split_range(shard.bytes->size(), split);
    shard.offset = begin;
    shard.tokens = end - begin;
    return shard;
  }
  const bool has_header = format == DataFormat::llmc;
  shard.offset = has_header ? ShardHeader::kBytes : 0;
  shard.tokens =
      has_header ? read_header(*shard.bytes, label) : count_raw_tokens(*shard.bytes, label);
  if (split == Split::validation) shard.tokens = 0;
  return shard;
}

TokenFiles TokenFiles::from_text(std::string text, const std::string& name) {
  TokenFiles files;
  files.label_ = name;
  files.vocab_ = kTextVocab;
  const auto tokens = static_cast<std::int64_t>(text.size());
  files.shards_.push_back(
      {.label = name, .bytes = bytes_of(std::move(text)), .offset = 0, .tokens = tokens});
  return files;
}

TokenFiles TokenFiles::from_tokens(std::span<const std::uint16_t> tokens, const std::string& name,
                                   std::int64_t vocab) {
  TokenFiles files;
  files.label_ = name;
  files.format_ = DataFormat::llmc;
  files.vocab_ = vocab;
  files.is_vocab_of_model_ = files.is_tokenized_text_ = true;
  std::string bytes(tokens.size_bytes(), '\0');
  std::ranges::copy(std::as_bytes(tokens), std::as_writable_bytes(std::span(bytes)).begin());
  files.shards_.push_back({.label = name,
                           .bytes = bytes_of(std::move(bytes)),
                           .offset = 0,
                           .tokens = std::ssize(tokens)});
  return files;
}

std::int64_t TokenFiles::tokens() const {
  std::int64_t total = 0;
  for (const Shard& shard : shards_) total += shard.tokens;
  return total;
}

bool TokenFiles::is_text() const {
  return format_ == DataFormat::text;
}

std::int64_t TokenFiles::natural_vocab() const {
  return is_text() ? kTextVocab : kGpt2Vocab;
}

std::int64_t TokenFiles::sequences(std::int64_t seq_len) const {
  return SequenceTable(*this, seq_len).count();
}

void TokenFiles::require_sequences(std::int64_t seq_len) const {
  if (sequences(seq_len) > 0) return;
  if (shards_.size() > 1) {
    refuse(label_, "no file has the {} tokens of one sequence (--seq-len {} and its targets)",
           seq_len + 1, seq_len);
  }
  refuse(label_, "{} tokens are fewer than one sequence of {} (--seq-len {} and its targets)",
         tokens(), seq_len + 1, seq_len);
}

void TokenFiles::check_tokens(std::int64_t max_bytes) const {
  const std::int64_t token_bytes = is_text() ? 1 : 2;
  std::vector<std::int32_t> tokens(std::size_t{1} << 16);
  std::int64_t left = max_bytes / token_bytes;
  for (const Shard& shard : shards_) {
    const std::int64_t end = std::min(shard.tokens, left);
    for (std::int64_t at = 0; at < end; at += std::ssize(tokens)) {
      require_no_stop(shard.label);
      const std::int64_t count = std::min(end - at, static_cast<std::int64_t>(tokens.size()));
      read(shard, at, std::span(tokens).first(static_cast<std::size_t>(count)));
    }
    left -= end;
  }
}

void TokenFiles::read_sequence(std::int64_t sequence, std::int64_t seq_len,
                               std::span<std::int32_t> out) const {
  SequenceTable(*this, seq_len).read(*this, sequence, out);
}

void TokenFiles::read(const Shard& shard, std::int64_t first, std::span<std::int32_t> out) const {
  std::array<std::byte, kChunkBytes> chunk;
  const std::int64_t token_bytes = is_text() ? 1 : 2;
  while (!out.empty()) {
    const std::size_t count =
        std::min(out.size(), chunk.size() / static_cast<std::size_t>(token_bytes));
    const auto bytes = std::span(chunk).first(count * static_cast<std::size_t>(token_bytes));
    shard.bytes->read(shard.offset + first * token_bytes, bytes, shard.label);
    const std::int32_t largest = is_text() ? widen<std::uint8_t>(bytes, out.data())
                                           : widen<std::uint16_t>(bytes, out.data());
    if (largest >= vocab_) {
      const auto unfit = std::find_if(out.begin(), out.end(), [&](auto t) { return t >= vocab_; });
      refuse_token(shard, first + (unfit - out.begin()), *unfit);
    }
    out = out.subspan(count);
    first += static_cast<std::int64_t>(count);
  }
}

void TokenFiles::refuse_token(const Shard& shard, std::int64_t position, std::int32_t token) const {
  if (is_vocab_of_model_) {
    refuse(shard.label,
           "token {} at position {} is outside the model's vocabulary of {}; it needs data of its "
           "own tokenizer",
           token, position, vocab_);
  }
  refuse(shard.label, "token {} at position {} is outside the vocabulary of {}; {}", token,
         position, vocab_,
         vocab_ < natural_vocab() ? fmt::format("--vocab {} holds this data", natural_vocab())
                                  : fmt::format("--vocab {} would hold it", token + 1));
}

std::string TokenFiles::summary() const {
  if (is_tokenized_text_) return fmt::format("text, {} tokens", grouped(tokens()));
  const char* kind = is_text() ? "file" : "shard";
  const char* format = is_text()                        ? "text, bytes as tokens"
                       : format_ == DataFormat::nanogpt ? "nanoGPT"
                                                        : "llm.c";
  return fmt::format("{} {}{}, {} tokens ({})", grouped(std::ssize(shards_)), kind,
                     shards_.size() == 1 ? "" : "s", grouped(tokens()), format);
}

SequenceTable::SequenceTable(const TokenFiles& files, std::int64_t seq_len)
    : seq_len_(seq_len), first_{0} {
  if (seq_len < 1)
    throw Error(ExitCode::usage, fmt::format("--seq-len {}: must be 1 or more", seq_len));
  first_.reserve(files.shards_.size() + 1);
  for (const TokenFiles::Shard& shard : files.shards_) {
    const std::int64_t whole = shard.tokens > 0 ? (shard.tokens - 1) / seq_len : 0;
    first_.push_back(first_.back() + whole);
  }
}

void SequenceTable::read(const TokenFiles& files, std::int64_t sequence,
                         std::span<std::int32_t> out) const {
  if (sequence < 0 || sequence >= count() || std::ssize(out) != seq_len_ + 1) {
    throw Error(ExitCode::internal,
                fmt::format("read of sequence {} of {} into {} tokens, expected {}", sequence,
                            count(), out.size(), seq_len_ + 1));
  }
  const auto after = std::upper_bound(first_.begin(), first_.end(), sequence);
  const auto shard = static_cast<std::size_t>(after - first_.begin() - 1);
  files.read(files.shards_[shard], (sequence - first_[shard]) * seq_len_, out);
}

}  // namespace lathe
