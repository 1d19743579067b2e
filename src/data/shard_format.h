// The header of an llm.c token shard (docs/formats.md), for its reader and its writer.
#pragma once

#include <cstdint>

namespace lathe {

struct ShardHeader {
  static constexpr std::int32_t kMagic = 20240520;
  static constexpr std::int32_t kVersion = 1;
  static constexpr std::int64_t kBytes = 1024;     // the rest of them zero
  static constexpr std::int64_t kMostIds = 65536;  // of 16 bits; a vocabulary has no more

  std::int32_t magic = kMagic, version = kVersion, tokens = 0;
};

}  // namespace lathe
