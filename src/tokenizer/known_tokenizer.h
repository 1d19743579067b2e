// The tokenizer of what is trained on: --tokenizer says it of text, dataset.json of the shards
// beside it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "lathe/tokenizer.h"

namespace lathe {

struct KnownTokenizer {
  std::string name = "none";                   // saved_tokenizer_name, or "none": not known
  std::shared_ptr<const Tokenizer> tokenizer;  // nullptr: not known, or not on this machine
  std::int64_t vocab = 0;                      // 0: not known
  std::string message;                         // why there is none, a line for the log; or ""
};

KnownTokenizer tokenizer_of_text(const std::string& asked);  // Errors: as open_tokenizer

// Of shards that --train and --val name; `asked` is what --tokenizer says, where it is not "bytes",
// its default, or "none". Errors: data, for shards of different tokenizers; usage, where `asked` is
// another one than theirs, or none at all.
KnownTokenizer tokenizer_of_shards(const std::vector<std::string>& paths, const std::string& asked);

// Error(data) for shards that dataset.json says to be of another tokenizer than a model's; what is
// "none" on one side is taken for the other's.
void require_tokens_of(const KnownTokenizer& model, const std::vector<std::string>& shards);

}  // namespace lathe
