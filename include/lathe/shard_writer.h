// Token shards of llm.c's format (docs/formats.md), one after another. A shard takes its final name
// when it is whole and on the disk.
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
  ShardWriter(const ShardWriter&) = delete;
  ShardWriter& operator=(const ShardWriter&) = delete;
  ~ShardWriter();  // removes a shard that has no final name yet

  // Error(storage). A shard that is full gets its name with the first token after it, or finish().
  void append(std::span<const std::uint16_t> tokens);
  void finish();

  std::int64_t tokens() const { return tokens_; }  // of all shards
  std::int64_t shards() const { return shards_; }  // that have their names

  // Moves the first `count` tokens of the shard that has no name yet to another writer.
  void move_first(std::int64_t count, ShardWriter& to);

 private:
  std::filesystem::path path() const;          // of the shard that is being written
  std::filesystem::path partial_path() const;  // and where it is until then
  void open();
  void commit();
  void discard();

  Spec spec_;
  std::optional<OutputFile> file_;  // of the shard that is being written
  std::int64_t open_tokens_ = 0;    // in it
  std::int64_t tokens_ = 0, shards_ = 0;
};

}  // namespace lathe
