// Token files as the tests open them: as --train, with what is not usual named.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "lathe/token_files.h"

namespace lathe::test {

struct OpenAs {
  DataFormat format = DataFormat::automatic;
  Split split = Split::whole;
  std::int64_t vocab = 0;
};

inline TokenFiles open_files(std::vector<std::string> patterns, const OpenAs& as = {}) {
  return TokenFiles::open({.patterns = std::move(patterns),
                           .option = "--train",
                           .format = as.format,
                           .split = as.split,
                           .vocab = as.vocab});
}

// The seq_len + 1 tokens of sequence `index`.
inline std::vector<std::int32_t> sequence(const TokenFiles& files, std::int64_t index,
                                          std::int64_t seq_len) {
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(seq_len + 1));
  files.read_sequence(index, seq_len, tokens);
  return tokens;
}

}  // namespace lathe::test
