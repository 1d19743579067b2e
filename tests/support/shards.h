// Token shards for tests, written independently of the code that reads them.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace lathe::test {

struct ShardHeader {
  std::int32_t magic = 20240520;
  std::int32_t version = 1;
  std::int32_t tokens = 0;
};

// The 1024 bytes of a header; a header followed by its tokens; tokens alone (nanoGPT).
std::string header_bytes(const ShardHeader& header);
std::string shard_bytes(std::span<const std::uint16_t> tokens);
std::string raw_token_bytes(std::span<const std::uint16_t> tokens);

// first, first + 1, ...
std::vector<std::uint16_t> counting_tokens(std::uint16_t first, std::size_t count);

}  // namespace lathe::test
