// The files of --train or --val as an ordered list of token arrays ("shards"), opened and checked
// once and never written. Reading is const and may happen from several threads at once.
//
// A sequence of length T is T + 1 tokens of one shard: its inputs and, one place on, its targets.
// Sequence i of a shard starts at token i*T, so neighbours share one token; what is left at a
// shard's end is dropped.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace lathe {

// automatic goes by the ending: .txt and .md are text, .bin is llmc (formats: data/README.md).
enum class DataFormat { automatic, llmc, nanogpt, text };

// Of each text file, training is the first 9/10 of the bytes (rounded down) and validation the
// rest. Shards are not split: all of them is training and nothing validation.
enum class Split { whole, training, validation };

struct TokenFilesSpec {
  std::vector<std::string> patterns;  // paths or glob(7) patterns
  std::string option;                 // "--train": what messages call the set
  DataFormat format;
  Split split;
  std::int64_t vocab;              // token ids are below it; 0: natural_vocab()
  bool is_vocab_of_model = false;  // of one that there is: --vocab cannot change it
};

bool has_text_ending(const std::string& path);  // .txt or .md

// The files that a path or pattern stands for, in order of name (bytes, whatever the locale). A
// file of exactly this name comes before its meaning as a pattern. Error(data) beginning with
// `option`.
std::vector<std::string> matching_files(const std::string& option, const std::string& pattern);

class ByteSource;  // a file or memory that can be read at any offset

class TokenFiles {
 public:
  // The files of each pattern in order of name, the patterns in the order given. Throws
  // Error(usage) without a pattern, Error(data) naming the file for everything else.
  static TokenFiles open(const TokenFilesSpec& spec);

  // One shard in memory, its bytes as tokens; `name` stands for the file in messages.
  static TokenFiles from_text(std::string text, const std::string& name);

  // The tokens that the text `name` was made into, in memory; ids are below the model's `vocab`.
  static TokenFiles from_tokens(std::span<const std::uint16_t> tokens, const std::string& name,
                                std::int64_t vocab);

  std::int64_t tokens() const;         // of all shards
  bool is_text() const;                // bytes as tokens
  std::int64_t natural_vocab() const;  // 256 for text, 50257 for shards
  std::int64_t vocab() const { return vocab_; }

  std::int64_t sequences(std::int64_t seq_len) const;

  // Throws Error(data) if there is no sequence of this length.
  void require_sequences(std::int64_t seq_len) const;

  // Throws Error(data) at the first token outside the vocabulary in the set's first `max_bytes`,
  // so that most unfit files are refused before any work.
  void check_tokens(std::int64_t max_bytes = std::int64_t{256} << 20) const;

  // The seq_len + 1 tokens of a sequence, counted in file order over all shards. Throws
  // Error(data) for a token outside the vocabulary, a file that has shrunk, or one that cannot be
  // read. Finding the shard takes time in their number: to read many, keep a SequenceTable.
  void read_sequence(std::int64_t sequence, std::int64_t seq_len,
                     std::span<std::int32_t> out) const;

  std::string summary() const;  // "3 shards, 300,000,000 tokens (llm.c)"

 private:
  friend class SequenceTable;

  struct Shard {
    std::string label;  // "--train data/a.bin"
    std::shared_ptr<const ByteSource> bytes;
    std::int64_t offset;  // of the first token, in bytes
    std::int64_t tokens;
  };

  static Shard make_shard(const std::string& label, std::shared_ptr<const ByteSource> bytes,
                          DataFormat format, Split split);
  void read(const Shard& shard, std::int64_t first, std::span<std::int32_t> out) const;
  [[noreturn]] void refuse_token(const Shard& shard, std::int64_t position,
                                 std::int32_t token) const;

  std::string label_;  // "--train data/*.bin"
  DataFormat format_ = DataFormat::text;
  std::int64_t vocab_ = 0;
  bool is_vocab_of_model_ = false;
  bool is_tokenized_text_ = false;
  std::vector<Shard> shards_;
};

// Where each shard's sequences of one length begin among those of all.
class SequenceTable {
 public:
  SequenceTable(const TokenFiles& files, std::int64_t seq_len);

  std::int64_t count() const { return first_.back(); }

  // As TokenFiles::read_sequence of the same files.
  void read(const TokenFiles& files, std::int64_t sequence, std::span<std::int32_t> out) const;

 private:
  std::int64_t seq_len_;
  std::vector<std::int64_t> first_;  // by shard, and the count at the end
};

}  // namespace lathe
