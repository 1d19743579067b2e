// A tokenizer for tests, whose tokens depend on whole words: text cut inside of one has others. It
// splits as GPT-2 does (docs/formats.md), told again in other words, and takes every character
// beyond ASCII that is no white space for a letter.
#pragma once

#include <memory>

#include "lathe/tokenizer.h"

namespace lathe::test {

inline constexpr std::int32_t kWordEndOfText = 65535;

class WordTokenizer final : public Tokenizer {
 public:
  std::string name() const override { return "words"; }
  std::int64_t vocab() const override { return 65536; }
  std::int32_t first_token() const override { return kWordEndOfText; }
  std::optional<std::int32_t> end_of_text() const override { return kWordEndOfText; }
  std::string_view bytes(std::int32_t) const override { return ""; }
  std::unique_ptr<Encoder> make_encoder() const override;
};

// The tokens of a text that is one document.
std::vector<std::uint16_t> word_tokens(std::string_view text);

}  // namespace lathe::test
