// Token shards of llm.c's format (docs/formats.md), one after another, in a folder that nobody
// reads before they are whole (lathe/dataset.h).
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>

#include "lathe/files.h"

namespace lathe {

class ShardWriter {
 public:
  struct Spec {
    std::filesystem::path folder;
    std::string prefix;         // FOLDER/PREFIX_000001.bin
    std::int64_t first_number;  // of the first shard's name
    std::int64_t shard_tokens;  // of each but the last, which has what is left
  };

  explicit ShardWriter(Spec spec);

  // Error(storage). A shard is whole and on the disk with the first token after it, or finish().
  void append(std::span<const std::uint16_t> tokens);
  void finish();

  // Of the only shard, that is not finished, gives its first `count` tokens to another writer.
  void move_first(std::int64_t count, ShardWriter& to);

  std::int64_t tokens() const { return tokens_; }  // of all shards
  std::int64_t shards() const { return shards_; }  // begun

 private:
  std::filesystem::path path() const;  // of the shard that is being written
  void open();
  void close();

  Spec spec_;
  std::optional<OutputFile> file_;  // of the shard that is being written
  std::int64_t open_tokens_ = 0;    // in it
  std::int64_t tokens_ = 0, shards_ = 0;
};

// "train_000001.bin"; and whether a file's name is one that lathe tokenize gives to a shard.
std::string shard_name(const std::string& prefix, std::int64_t number);
bool is_shard_name(const std::string& name);

}  // namespace lathe
