// GPT-2's words and tokens are those of a plain regular expression and of tiktoken, for texts that
// scripts/make_tokenizer_golden.py made too (golden/tokenizer.json). What needs vocab.bpe or tiny
// Shakespeare looks for them in LATHE_TEST_DATA.
#include "lathe/tokenizer.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <fstream>
#include <functional>

#include "data/text_reader.h"
#include "lathe/files.h"
#include "support/error_of.h"
#include "support/json.h"
#include "support/temp_dir.h"
#include "tokenizer/bpe_words.h"
#include "tokenizer/unicode.h"

namespace lathe {
namespace {

using Visit = std::function<void(const std::string&)>;

// SplitMix64 (Steele et al. 2014).
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t below(std::uint64_t n) {
    std::uint64_t z = state_ += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return (z ^ z >> 31) % n;
  }

 private:
  std::uint64_t state_;
};

const std::array<std::string, 44> kPieces = {"a",
                                             "B",
                                             "s",
                                             "the",
                                             " ",
                                             "  ",
                                             "\n",
                                             "\t",
                                             "'",
                                             "'s",
                                             "'ll",
                                             "'LL",
                                             "'re",
                                             "'t",
                                             "1",
                                             "23",
                                             ".",
                                             "!?",
                                             "-",
                                             "_",
                                             "\r\n",
                                             "\u00a0",
                                             "\u0085",
                                             "\u2003",
                                             "\u3000",
                                             "\u200b",
                                             "\ufeff",
                                             "\u180e",
                                             "\x1c",
                                             "\u00e9",
                                             "e\u0301",
                                             "\u0436\u0438",
                                             "\u4e2d\u6587",
                                             "\u00b2",
                                             "\u0664",
                                             "\u2167",
                                             "\u20ac",
                                             "\U0001f600",
                                             "\U0001d518",
                                             "\U00020000",
                                             "\U0001fbf5",
                                             "<|endoftext|>",
                                             " hello",
                                             " world"};

bool is_surrogate(std::uint64_t code) {
  return code >= 0xD800 && code < 0xE000;
}

std::string utf8(std::uint64_t code) {
  const auto last = [&](int bits) { return static_cast<char>(0x80 | (code >> bits & 0x3F)); };
  const auto lead = [&](std::uint64_t mark, int bits) {
    return static_cast<char>(mark | code >> bits);
  };
  if (code < 0x80) return {static_cast<char>(code)};
  if (code < 0x800) return {lead(0xC0, 6), last(0)};
  if (code < 0x10000) return {lead(0xE0, 12), last(6), last(0)};
  return {lead(0xF0, 18), last(12), last(6), last(0)};
}

std::string random_string(Random& random) {
  std::string text;
  for (auto pieces = random.below(12); pieces > 0; --pieces) {
    if (random.below(4) == 0) {
      const std::uint64_t code = random.below(0x110000);
      text += is_surrogate(code) ? "x" : utf8(code);
    } else {
      text += kPieces[random.below(kPieces.size())];
    }
  }
  return text;
}

// Mostly no UTF-8.
std::string random_bytes(Random& random) {
  std::string text;
  for (auto pieces = random.below(12); pieces > 0; --pieces) {
    const std::string& piece = kPieces[random.below(kPieces.size())];
    const std::uint64_t kind = random.below(3);
    if (kind == 0) {
      text += static_cast<char>(random.below(256));
    } else {
      text += kind == 1 ? piece.substr(0, random.below(piece.size() + 1)) : piece;
    }
  }
  return text;
}

void long_runs(const Visit& visit) {
  for (const std::string run : {"a", " ", "\n", "0", "!", "'", "\u00e9", "ab", "\u4e2d", "\u3000",
                                "Aa", " a", "=", "the"}) {
    for (const int length :
         {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 63, 64, 65, 66, 127, 1000, 20000}) {
      std::string text;
      for (int i = 0; i < length; ++i) text += run;
      visit(text);
      visit(text + "x");
    }
  }
}

template <class Make>
void repeat(std::uint64_t seed, const Make& make, const Visit& visit) {
  Random random(seed);
  for (int i = 0; i < 50'000; ++i) visit(make(random));
}

void every_character(const std::string& before, const std::string& after, const Visit& visit) {
  for (std::uint64_t code = 0; code < 0x110000; ++code) {
    if (!is_surrogate(code)) visit(before + utf8(code) + after);
  }
}

std::string test_data() {
  const char* folder = std::getenv("LATHE_TEST_DATA");
  return folder == nullptr ? "" : folder;
}

void for_each_text(const std::string& family, const Visit& visit) {
  if (family == "characters") every_character("", "", visit);
  if (family == "characters_between_letters") every_character("a", "b", visit);
  if (family == "characters_after_space") every_character(" ", " x", visit);
  if (family == "characters_after_spaces") every_character("1  ", "2", visit);
  if (family == "characters_after_apostrophe") every_character("'", "'s", visit);
  if (family == "random_strings") repeat(1, random_string, visit);
  if (family == "random_bytes") repeat(2, random_bytes, visit);
  if (family == "long_runs") long_runs(visit);
  if (family == "tiny_shakespeare")
    visit(test::read_file(test_data() + "/data/tinyshakespeare.txt"));
}

// Numbers as the script digests them.
class Digest {
 public:
  void add(const std::vector<std::int32_t>& numbers) {
    constexpr std::array<std::int32_t, 1> kEnd = {-1};
    count_ += numbers.size();
    checksum_.update(std::as_bytes(std::span(numbers)));
    checksum_.update(std::as_bytes(std::span(kEnd)));
  }
  std::size_t count() const { return count_; }
  std::string xxh3() const { return hexadecimal(checksum_); }

  static std::string hexadecimal(const Checksum& checksum) {
    std::array<char, 17> digits{};
    std::snprintf(digits.data(), digits.size(), "%016lx",
                  static_cast<unsigned long>(checksum.value()));
    return digits.data();
  }

 private:
  std::size_t count_ = 0;
  Checksum checksum_;
};

nlohmann::json golden() {
  return test::parse_json(test::read_file(LATHE_GOLDEN_DIR "/tokenizer.json"));
}

// Calls check(name, what is expected) for each family that can be made here.
void for_each_family(const std::function<void(const std::string&, const nlohmann::json&)>& check) {
  const nlohmann::json families = golden().at("families");
  EXPECT_EQ(families.size(), 9u);
  for (const auto& [family, expected] : families.items()) {
    if (family == "tiny_shakespeare" && test_data().empty()) continue;
    SCOPED_TRACE(family);
    check(family, expected);
  }
}

TEST(Words, AreThoseOfTheRegularExpression) {
  EXPECT_EQ(golden().at("unicode"), unicode_version());
  for_each_family([](const std::string& family, const nlohmann::json& expected) {
    Digest words;
    Checksum texts;
    std::vector<std::int32_t> lengths;
    for_each_text(family, [&](const std::string& text) {
      texts.update(std::as_bytes(std::span(text)));
      lengths.clear();
      const char* const end = text.data() + text.size();
      for (const char* at = text.data(); at != end;) {
        const char* next = word_end(at, end);
        lengths.push_back(static_cast<std::int32_t>(next - at));
        at = next;
      }
      words.add(lengths);
    });
    ASSERT_EQ(Digest::hexadecimal(texts), expected.at("texts_xxh3")) << "another text was made";
    EXPECT_EQ(words.count(), expected.at("words"));
    EXPECT_EQ(words.xxh3(), expected.at("words_xxh3"));
  });
}

// Overlong forms of letters and blanks, surrogates, beyond the last character, cut short.
TEST(Words, OfNoCharacterAreOnesOfOthers) {
  for (const std::string bytes :
       {"\xC1\x81", "\xC0\xA0", "\xE0\x81\x81", "\xE0\x80\xA0", "\xF0\x80\x81\x81",
        "\xF0\x80\x80\xA0", "\xF0\x83\xA9\xA9", "\xED\xA0\x80", "\xF4\x90\x80\x80",
        "\xF7\xBF\xBF\xBF", "\xF8\x88\x80\x80\x80", "\xFF", "\x80", "\xC3", "\xE4\xB8"}) {
    const std::string text = "a" + bytes + "b";
    const char* const end = text.data() + text.size();
    EXPECT_EQ(word_end(text.data(), end), text.data() + 1) << bytes;
    EXPECT_EQ(word_end(text.data() + 1, end), end - 1) << bytes;
    EXPECT_EQ(word_end(text.data() + 1, end - 1), end - 1) << bytes;
  }
}

// The tokens of a text cut where the text reader cuts are those of the whole.
TEST(Words, EndWhereTextIsCut) {
  Random random(3);
  const auto ends = [](std::string_view text, std::size_t from, std::vector<std::size_t>& found) {
    const char* const end = text.data() + text.size();
    for (const char* at = text.data(); at != end;) {
      at = word_end(at, end);
      found.push_back(from + static_cast<std::size_t>(at - text.data()));
    }
  };
  int cuts = 0;
  for (int i = 0; i < 20'000; ++i) {
    const std::string text = random_string(random) + random_bytes(random);
    const std::string_view start = std::string_view(text).substr(0, random.below(text.size() + 1));
    const std::size_t cut = last_word_end(start);
    if (cut == 0) continue;
    ++cuts;
    std::vector<std::size_t> whole, pieces;
    ends(text, 0, whole);
    ends(std::string_view(text).substr(0, cut), 0, pieces);
    ends(std::string_view(text).substr(cut), cut, pieces);
    ASSERT_EQ(pieces, whole) << text;
  }
  EXPECT_GT(cuts, 1000);
}

class Gpt2 : public testing::Test {
 protected:
  void SetUp() override {
    if (test_data().empty()) {
      GTEST_SKIP() << "LATHE_TEST_DATA is not set: no vocab.bpe to compare tokens with tiktoken's";
    }
    tokenizer_ = open_tokenizer(test_data() + "/gpt2/vocab.bpe");
  }
  std::shared_ptr<const Tokenizer> tokenizer_;
};

TEST_F(Gpt2, TokensAreTiktokens) {
  for_each_family([this](const std::string& family, const nlohmann::json& expected) {
    const auto encoder = tokenizer_->make_encoder();
    Digest tokens;
    std::vector<std::int32_t> ids;
    std::size_t differing = 0;
    for_each_text(family, [&](const std::string& text) {
      ids.clear();
      encoder->encode(text, ids);
      tokens.add(ids);
      if (decode(*tokenizer_, ids) != text) ++differing;
    });
    EXPECT_EQ(differing, 0u) << "texts are not what their tokens decode to";
    EXPECT_EQ(tokens.count(), expected.at("tokens"));
    EXPECT_EQ(tokens.xxh3(), expected.at("tokens_xxh3"));
  });
}

TEST_F(Gpt2, HasItsSizesAndEndOfText) {
  EXPECT_EQ(tokenizer_->vocab(), 50257);
  EXPECT_EQ(tokenizer_->end_of_text(), 50256);
  EXPECT_EQ(tokenizer_->first_token(), 50256);
  EXPECT_EQ(tokenizer_->bytes(50256), "");
  EXPECT_EQ(tokenizer_->bytes(50257), "");
  EXPECT_EQ(tokenizer_->bytes(-1), "");
  EXPECT_EQ(tokenizer_->bytes(15496), "Hello");
}

TEST_F(Gpt2, EndOfTextInATextIsText) {
  EXPECT_EQ(encode(*tokenizer_, "a<|endoftext|>b"),
            (std::vector<std::int32_t>{64, 27, 91, 437, 1659, 5239, 91, 29, 65}));
}

// The heap's time: were it quadratic, this would take hours.
TEST_F(Gpt2, MillionsOfOneCharacterTakeNoTime) {
  const std::string text(1'000'000, 'a');
  EXPECT_EQ(decode(*tokenizer_, encode(*tokenizer_, text)), text);
}

}  // namespace
}  // namespace lathe
