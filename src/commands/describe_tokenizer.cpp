// Descriptions of tokenizers' files.
#include <fmt/format.h>

#include <algorithm>

#include "describe.h"
#include "lathe/bpe.h"
#include "lathe/files.h"
#include "tokenizer/bpe_files.h"
#include "tokenizer/llmc_tokenizer.h"
#include "tokenizer/utf8.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

// What can be said of tokens, whatever made them.
Facts describe_tokens(const Tokenizer& tokenizer) {
  std::int64_t without_text = 0, no_utf8 = 0;
  std::size_t longest = 0;
  for (std::int32_t id = 0; id < tokenizer.vocab(); ++id) {
    const std::string_view bytes = tokenizer.bytes(id);
    if (bytes.empty()) ++without_text;
    if (!is_utf8(bytes)) ++no_utf8;
    longest = std::max(longest, bytes.size());
  }
  const auto end_of_text = tokenizer.end_of_text();
  return {{"vocab", tokenizer.vocab()},
          {"end_of_text", end_of_text ? Facts(*end_of_text) : Facts(nullptr)},
          {"tokens_without_text", without_text},
          {"tokens_of_partial_characters", no_utf8},
          {"longest_token_bytes", longest}};
}

}  // namespace

Facts describe_bpe(const fs::path& path) {
  const auto tokenizer = open_tokenizer(path.string());
  const BpeVocabulary* vocabulary = bpe_vocabulary(*tokenizer);
  if (vocabulary == nullptr) return describe_llmc_tokenizer(path);  // whatever its name
  Facts facts = {{"kind", "tokenizer (byte-level BPE)"}, {"merges", vocabulary->merges.size()}};
  facts.update(describe_tokens(*tokenizer));
  if (!fs::is_directory(path)) {
    const std::string text = read_file(path, ExitCode::data);
    facts["bytes"] = text.size();
    facts["sha256"] = sha256(text);
    facts["is_gpt2"] = facts["sha256"] == kGpt2Sha256;
  }
  return facts;
}

Facts describe_llmc_tokenizer(const fs::path& path) {
  const NamedText file = {.name = path.string(), .text = read_file(path, ExitCode::data)};
  Facts facts = {{"kind", "tokenizer (llm.c)"},
                 {"bytes", file.text.size()},
                 {"version", parse_llmc_tokenizer(file).version}};
  facts.update(describe_tokens(*llmc_tokenizer(file)));
  return facts;
}

}  // namespace lathe
