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

#include "lathe/shard_writer.h"
#include "lathe/tokenizer.h"

namespace lathe {

// Which of two sets a text belongs to.
enum class Part { training, validation };

struct TextSpec {
  std::vector<std::string> paths;  // "-" is stdin
  std::optional<bool> lines;       // JSON lines or plain text; nullopt: .jsonl are lines
  std::string text_field;          // of a JSON line
  // Of each plain file its end validates, of JSON lines documents spread evenly.
  double validation_fraction;
  int threads;
};

struct TokenizeProgress {
  std::int64_t bytes, documents;             // so far
  std::optional<std::int64_t> bytes_in_all;  // nullopt: not known, a pipe
};

// Where tokens go, in order.
class TokenSink {
 public:
  virtual ~TokenSink() = default;
  virtual void append(std::span<const std::uint16_t> tokens, Part part) = 0;
  virtual void progress(const TokenizeProgress& progress) = 0;
};

// Each document begins with the end-of-text token, where the tokenizer has one. False: a stop
// signal came before the end. Throws Error: data for the text, usage for a tokenizer with more ids
// than 16 bits hold.
bool tokenize(const TextSpec& spec, const Tokenizer& tokenizer, TokenSink& sink);

struct ShardSpec {
  std::filesystem::path folder;  // that exists; train_000001.bin, val_000000.bin, ... go there
  std::int64_t shard_tokens;
  // Without parts the first shard validates or, where there is only one, its last tenth.
  bool has_parts;
};

struct ShardCounts {
  std::int64_t training_tokens, training_shards;
  std::int64_t validation_tokens, validation_shards;
};

// Token shards in a folder. What is not finished when it is destroyed is removed.
class ShardSink : public TokenSink {
 public:
  using Report = std::function<void(const TokenizeProgress&, const ShardCounts&)>;

  ShardSink(const ShardSpec& spec, Report report);

  void append(std::span<const std::uint16_t> tokens, Part part) override;
  void progress(const TokenizeProgress& progress) override;
  void finish();
  ShardCounts counts() const;

 private:
  bool has_parts_;
  Report report_;
  ShardWriter training_, validation_;
  std::int64_t first_shard_tokens_;
};

// The tokens of one part of texts, in memory.
std::vector<std::uint16_t> tokenize_in_memory(const TextSpec& spec, const Tokenizer& tokenizer,
                                              Part part);

}  // namespace lathe
