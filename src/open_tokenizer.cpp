#include <fmt/format.h>

#include "lathe/bpe.h"
#include "lathe/error.h"

namespace lathe {

std::shared_ptr<const Tokenizer> open_tokenizer(const std::string& name) {
  if (name == "bytes") return byte_tokenizer();
  throw Error(ExitCode::usage, fmt::format("--tokenizer {}: not found", name));
}

std::shared_ptr<const Tokenizer> bpe_tokenizer(BpeVocabulary, const std::string& name) {
  throw Error(ExitCode::internal, fmt::format("{}: there is no BPE yet", name));
}

const BpeVocabulary* bpe_vocabulary(const Tokenizer&) {
  return nullptr;
}

void write_tokenizer_files(const Tokenizer& tokenizer, const std::filesystem::path&) {
  throw Error(ExitCode::usage, fmt::format("--tokenizer {} cannot be written", tokenizer.name()));
}

}  // namespace lathe
