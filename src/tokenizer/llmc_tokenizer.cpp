#include "llmc_tokenizer.h"

#include <fmt/format.h>

#include <cstring>
#include <utility>

#include "lathe/error.h"
#include "lathe/gpt2_tokens.h"

namespace lathe {
namespace {

constexpr std::size_t kHeaderBytes = 1024;

[[noreturn]] void refuse(const NamedText& file, const std::string& reason) {
  throw Error(ExitCode::data, fmt::format("{}: {}", file.name, reason));
}

struct Header {
  std::uint32_t magic, version, vocab, end_of_text;
};

Header read_header(const NamedText& file) {
  if (file.text.size() < kHeaderBytes) {
    refuse(file, fmt::format("has {} bytes, where the header of an llm.c tokenizer has {}",
                             file.text.size(), kHeaderBytes));
  }
  Header header{};
  std::memcpy(&header, file.text.data(), sizeof header);
  if (header.magic != kLlmcTokenizerMagic) {
    refuse(file, fmt::format("begins with magic number {}, that of an llm.c tokenizer is {}",
                             header.magic, kLlmcTokenizerMagic));
  }
  if (header.version != 1 && header.version != 2) {
    refuse(file,
           fmt::format("is an llm.c tokenizer of version {}; 1 and 2 are known", header.version));
  }
  if (header.version == 1) header.end_of_text = kGpt2EndOfText;
  if (header.end_of_text >= header.vocab) {
    refuse(file, fmt::format("has {} tokens, but its end of text is {}", header.vocab,
                             header.end_of_text));
  }
  return header;
}

class LlmcTokenizer final : public Tokenizer {
 public:
  explicit LlmcTokenizer(NamedText file)
      : file_(std::move(file)), vocabulary_(parse_llmc_tokenizer(file_)) {}

  const std::string& text() const { return file_.text; }

  std::string name() const override { return file_.name; }
  std::int64_t vocab() const override { return std::ssize(vocabulary_.tokens); }
  std::int32_t first_token() const override { return vocabulary_.end_of_text; }
  std::optional<std::int32_t> end_of_text() const override { return vocabulary_.end_of_text; }
  std::string_view bytes(std::int32_t token) const override {
    if (token < 0 || token >= vocab()) return {};
    return vocabulary_.tokens[static_cast<std::size_t>(token)];
  }
  std::unique_ptr<Encoder> make_encoder() const override {
    throw Error(ExitCode::usage,
                fmt::format("{}: llm.c's tokenizer file has no merges and can only decode; gpt2, a "
                            "vocab.bpe and a tokenizer.json can encode",
                            file_.name));
  }

 private:
  NamedText file_;
  LlmcVocabulary vocabulary_;
};

}  // namespace

LlmcVocabulary parse_llmc_tokenizer(const NamedText& file) {
  const Header header = read_header(file);
  LlmcVocabulary vocabulary{.version = header.version,
                            .tokens = {},
                            .end_of_text = static_cast<std::int32_t>(header.end_of_text)};
  std::size_t at = kHeaderBytes;
  for (std::uint32_t id = 0; id < header.vocab; ++id) {
    const std::size_t length =
        at < file.text.size() ? static_cast<unsigned char>(file.text[at]) : 0;
    if (at + 1 + length > file.text.size()) {
      refuse(file, fmt::format("ends at byte {}, inside token {} of {}", file.text.size(), id,
                               header.vocab));
    }
    vocabulary.tokens.push_back(file.text.substr(at + 1, length));
    at += 1 + length;
  }
  if (at != file.text.size()) {
    refuse(file,
           fmt::format("has {} bytes after its {} tokens", file.text.size() - at, header.vocab));
  }
  vocabulary.tokens[header.end_of_text].clear();
  return vocabulary;
}

std::shared_ptr<const Tokenizer> llmc_tokenizer(const NamedText& file) {
  return std::make_shared<LlmcTokenizer>(file);
}

const std::string* llmc_tokenizer_text(const Tokenizer& tokenizer) {
  const auto* llmc = dynamic_cast<const LlmcTokenizer*>(&tokenizer);
  return llmc == nullptr ? nullptr : &llmc->text();
}

}  // namespace lathe
