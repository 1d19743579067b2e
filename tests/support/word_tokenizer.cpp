#include "support/word_tokenizer.h"

#include <functional>

namespace lathe::test {
namespace {

enum class Kind { space, letter, digit, other, end };

struct Character {
  Kind kind;
  std::size_t bytes;
};

bool is_space(unsigned point) {
  return (point >= 9 && point <= 13) || point == 32 || point == 0x85 || point == 0xA0 ||
         point == 0x1680 || (point >= 0x2000 && point <= 0x200A) || point == 0x2028 ||
         point == 0x2029 || point == 0x202F || point == 0x205F || point == 0x3000;
}

// For valid UTF-8; other bytes are letters.
Character character_at(std::string_view text, std::size_t at) {
  if (at >= text.size()) return {Kind::end, 0};
  const auto byte = [&](std::size_t i) {
    return at + i < text.size() ? static_cast<unsigned char>(text[at + i]) : 0u;
  };
  const unsigned lead = byte(0);
  if (lead < 0x80) {
    const bool is_letter = (lead | 32) >= 'a' && (lead | 32) <= 'z';
    const bool is_digit = lead >= '0' && lead <= '9';
    return {is_space(lead) ? Kind::space
            : is_letter    ? Kind::letter
            : is_digit     ? Kind::digit
                           : Kind::other,
            1};
  }
  const std::size_t bytes = lead < 0xC0 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  unsigned point = lead & (0xFFu >> (bytes + 1));
  for (std::size_t i = 1; i < bytes; ++i) point = point << 6 | (byte(i) & 0x3F);
  return {bytes > 1 && is_space(point) ? Kind::space : Kind::letter, bytes};
}

std::size_t run_end(std::string_view text, std::size_t at, Kind kind) {
  for (;;) {
    const Character character = character_at(text, at);
    if (character.kind != kind) return at;
    at += character.bytes;
  }
}

std::size_t word_end(std::string_view text, std::size_t at) {
  for (const std::string_view ending : {"'s", "'d", "'m", "'t", "'ll", "'ve", "'re"}) {
    if (text.substr(at).starts_with(ending)) return at + ending.size();
  }
  const std::size_t start = text[at] == ' ' ? at + 1 : at;
  const Kind kind = character_at(text, start).kind;
  if (kind != Kind::space && kind != Kind::end) return run_end(text, start, kind);
  // White space: but for its last character where something follows, unless that is all.
  const std::size_t end = run_end(text, at, Kind::space);
  if (end == text.size()) return end;
  std::size_t last = at;
  for (std::size_t next = at; next < end; next += character_at(text, next).bytes) last = next;
  return last == at ? end : last;
}

class WordEncoder final : public Encoder {
 public:
  void encode(std::string_view text, std::vector<std::int32_t>& tokens) override {
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t end = word_end(text, at);
      const std::size_t hash = std::hash<std::string_view>()(text.substr(at, end - at));
      tokens.push_back(static_cast<std::int32_t>(hash % kWordEndOfText));
      if (end - at > 4) tokens.push_back(static_cast<std::int32_t>(hash / 7 % kWordEndOfText));
      at = end;
    }
  }
};

}  // namespace

std::unique_ptr<Encoder> WordTokenizer::make_encoder() const {
  return std::make_unique<WordEncoder>();
}

std::vector<std::uint16_t> word_tokens(std::string_view text) {
  std::vector<std::int32_t> tokens = {kWordEndOfText};
  WordEncoder().encode(text, tokens);
  return {tokens.begin(), tokens.end()};
}

}  // namespace lathe::test
