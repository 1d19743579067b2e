// llm.c's tokenizer .bin (docs/formats.md): the bytes of each token. It has no merges, so it only
// decodes.
#pragma once

#include <cstdint>
#include <memory>

#include "bpe_files.h"

namespace lathe {

inline constexpr std::uint32_t kLlmcTokenizerMagic = 20240328;

struct LlmcVocabulary {
  std::uint32_t version;
  std::vector<std::string> tokens;  // by id; "" for the end of text
  std::int32_t end_of_text;
};

// Throws Error(data) that begins with the file's name.
LlmcVocabulary parse_llmc_tokenizer(const NamedText& file);

std::shared_ptr<const Tokenizer> llmc_tokenizer(const NamedText& file);

// The text of the file that it was made of, which need not be there any more; nullptr: it is
// another kind of tokenizer.
const std::string* llmc_tokenizer_text(const Tokenizer& tokenizer);

}  // namespace lathe
