// Text files into tokens: pieces of text are encoded by several threads and given out in the order
// of the text, so the result does not depend on the number of threads.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "lathe/dataset.h"
#include "lathe/shard_writer.h"
#include "lathe/tokenizer.h"

namespace lathe {

// Which of two sets a text belongs to.
enum class Part { training, validation };

inline constexpr const char* kDefaultTextField = "text";  // of a JSON line

struct TextSpec {
  std::vector<std::string> paths;       // "-" is stdin
  std::optional<bool> lines;            // JSON lines or plain text; nullopt: .jsonl are lines
  std::string text_field;               // of a JSON line
  std::string document_separator = {};  // of plain text; "": a file is a document
  // Of a file that is one document its end validates; of others, documents spread evenly.
  double validation_fraction;
  int threads;
  std::size_t piece_bytes = std::size_t{1} << 20;  // about, of what a thread encodes at a time
};

// Whether a file has a document on each line.
bool has_json_lines(const TextSpec& spec, const std::string& path);

struct TokenizeProgress {
  std::int64_t bytes = 0;                    // so far
  std::int64_t documents = 0;                // a file of which a part validates has two
  std::optional<std::int64_t> bytes_in_all;  // nullopt: not known, a pipe
};

// Where tokens go, in order. One thread at a time calls it, not always the same.
class TokenSink {
 public:
  virtual ~TokenSink() = default;
  virtual void append(std::span<const std::uint16_t> tokens, Part part) = 0;
  virtual void progress(const TokenizeProgress& progress) = 0;
};

// Each document begins with the end-of-text token, where the tokenizer has one; an empty document
// is none. False: a stop signal came before the end. Throws Error: data for the text, naming file
// and line; usage for a tokenizer with more ids than 16 bits hold, or none that encodes.
bool tokenize(const TextSpec& spec, const Tokenizer& tokenizer, TokenSink& sink);

struct ShardSpec {
  std::filesystem::path folder;  // that exists; train_000001.bin, val_000000.bin, ... go there
  std::int64_t shard_tokens;
  // Without parts the first shard validates or, where there is only one, its last tenth.
  bool has_parts;
};

// Token shards in a folder.
class ShardSink : public TokenSink {
 public:
  using Report = std::function<void(const TokenizeProgress&)>;

  ShardSink(const ShardSpec& spec, Report report);

  void append(std::span<const std::uint16_t> tokens, Part part) override;
  void progress(const TokenizeProgress& progress) override;
  void finish();  // all shards are on the disk

  DatasetPart train() const;
  DatasetPart val() const;
  const TokenizeProgress& last_progress() const { return last_progress_; }

 private:
  ShardSpec spec_;
  Report report_;
  ShardWriter training_, validation_;
  TokenizeProgress last_progress_;
};

// What a folder of shards made from this text is.
Dataset describe_dataset(const TextSpec& spec, const Tokenizer& tokenizer, const ShardSink& sink);

}  // namespace lathe
