#include "support/shards.h"

#include <numeric>

namespace lathe::test {
namespace {

void append_little_endian(std::string& bytes, std::uint32_t value, int width) {
  for (int i = 0; i < width; ++i) bytes += static_cast<char>(value >> (8 * i) & 0xff);
}

}  // namespace

std::string header_bytes(const ShardHeader& header) {
  std::string bytes;
  for (const std::int32_t field : {header.magic, header.version, header.tokens}) {
    append_little_endian(bytes, static_cast<std::uint32_t>(field), 4);
  }
  bytes.resize(1024, '\0');
  return bytes;
}

std::string raw_token_bytes(std::span<const std::uint16_t> tokens) {
  std::string bytes;
  for (const std::uint16_t token : tokens) append_little_endian(bytes, token, 2);
  return bytes;
}

std::string shard_bytes(std::span<const std::uint16_t> tokens) {
  return header_bytes({.tokens = static_cast<std::int32_t>(tokens.size())}) +
         raw_token_bytes(tokens);
}

std::vector<std::uint16_t> counting_tokens(std::uint16_t first, std::size_t count) {
  std::vector<std::uint16_t> tokens(count);
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

}  // namespace lathe::test
