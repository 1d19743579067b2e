#include "lathe/tokenizer.h"

#include <array>

namespace lathe {
namespace {

constexpr std::int64_t kBytes = 256;

class ByteEncoder final : public Encoder {
 public:
  void encode(std::string_view text, std::vector<std::int32_t>& tokens) override {
    tokens.reserve(tokens.size() + text.size());
    for (const char c : text) tokens.push_back(static_cast<unsigned char>(c));
  }
};

class ByteTokenizer final : public Tokenizer {
 public:
  ByteTokenizer() {
    for (std::size_t i = 0; i < bytes_.size(); ++i) bytes_[i] = static_cast<char>(i);
  }

  std::string name() const override { return "bytes"; }
  std::int64_t vocab() const override { return kBytes; }
  std::int32_t first_token() const override { return '\n'; }
  std::optional<std::int32_t> end_of_text() const override { return std::nullopt; }
  std::string_view bytes(std::int32_t token) const override {
    if (token < 0 || token >= kBytes) return {};
    return {&bytes_[static_cast<std::size_t>(token)], 1};
  }
  std::unique_ptr<Encoder> make_encoder() const override { return std::make_unique<ByteEncoder>(); }

 private:
  std::array<char, kBytes> bytes_;
};

}  // namespace

std::shared_ptr<const Tokenizer> byte_tokenizer() {
  return std::make_shared<ByteTokenizer>();
}

std::vector<std::int32_t> encode(const Tokenizer& tokenizer, std::string_view text) {
  std::vector<std::int32_t> tokens;
  tokenizer.make_encoder()->encode(text, tokens);
  return tokens;
}

std::string decode(const Tokenizer& tokenizer, std::span<const std::int32_t> tokens) {
  std::string text;
  for (const std::int32_t token : tokens) text += tokenizer.bytes(token);
  return text;
}

}  // namespace lathe
