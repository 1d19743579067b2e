// Files of tokenizers: what is read, what is refused, what is written, and a vocabulary learned.
#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <map>
#include <random>
#include <set>

#include "commands/describe.h"
#include "lathe/bpe.h"
#include "lathe/dataset.h"
#include "support/error_of.h"
#include "support/json.h"
#include "support/temp_dir.h"
#include "tokenizer/bpe_files.h"
#include "tokenizer/bpe_merge.h"
#include "tokenizer/llmc_tokenizer.h"

namespace lathe {
namespace {

using test::error_of;
using test::TempDir;
using Ids = std::vector<std::int32_t>;

// Ġ is a blank.
constexpr const char* kMerges =
    "#version: 0.2\n"
    "t h\n"
    "th e\n"
    "\u0120 the\n"
    "a a\n"
    "aa a\n";

std::string merges_error(const std::string& text) {
  return error_of([&] { parse_merges({.name = "m", .text = text}); });
}

TEST(MergesFile, GivesIdsInOrder) {
  const BpeVocabulary vocabulary = parse_merges({.name = "m", .text = kMerges});
  ASSERT_EQ(vocabulary.tokens.size(), 262u);
  EXPECT_EQ(vocabulary.tokens[0], "!");
  EXPECT_EQ(vocabulary.tokens[93], "~");
  EXPECT_EQ(vocabulary.tokens[94], "\xA1");
  EXPECT_EQ(vocabulary.tokens[188], std::string(1, '\0'));
  EXPECT_EQ(vocabulary.tokens[220], " ");
  EXPECT_EQ(vocabulary.tokens[255], "\xAD");
  EXPECT_EQ(vocabulary.tokens[258], " the");
  EXPECT_EQ(vocabulary.end_of_text, 261);
  EXPECT_EQ(vocabulary.merges[2], (BpeMerge{.left = 220, .right = 257, .merged = 258}));
  const auto tokenizer = bpe_tokenizer(vocabulary, "m");
  EXPECT_EQ(encode(*tokenizer, "the the\n"), (Ids{257, 258, 198}));
  EXPECT_EQ(encode(*tokenizer, "aaaaaaa"), (Ids{259, 259, 260}));
}

TEST(MergesFile, RefusesWhatIsNone) {
  const std::string must = "must be two tokens with a space between them, such as \"t h\", not ";
  EXPECT_EQ(merges_error("t h\nth\n"), "exit 3: m: line 2: " + must + "\"th\"");
  EXPECT_EQ(merges_error("t h\n\nt a\n"), "exit 3: m: line 2: " + must + "\"\"");
  EXPECT_EQ(merges_error(" h\n"), "exit 3: m: line 1: " + must + "\" h\"");
  EXPECT_EQ(merges_error("t \n"), "exit 3: m: line 1: " + must + "\"t \"");
  EXPECT_EQ(merges_error("t h e\n"), "exit 3: m: line 1: " + must + "\"t h e\"");
  EXPECT_EQ(merges_error("t h\r\n"), "exit 3: m: line 1: " + must + "\"t h\\r\"");
  EXPECT_EQ(merges_error("t \u4e2d\n"), "exit 3: m: line 1: " + must + "\"t \\u4e2d\"");
  EXPECT_EQ(merges_error("t h\n#version: 0.2\n"),
            "exit 3: m: line 2: \"#version:\" is not a token");
  EXPECT_EQ(merges_error("th e\n"), "exit 3: m: line 1: \"th\" is not a token");
  EXPECT_EQ(merges_error("t h\nt h\n"),
            "exit 3: m: line 2: makes \"th\", which is a token already");
  EXPECT_EQ(merges_error("t h\nt h"), "exit 3: m: line 2: makes \"th\", which is a token already");
  EXPECT_EQ(merges_error("#version: 0.2\n"), "exit 3: m: has no merges");
}

// The plain definition: all pairs are looked at again after each merge.
Ids merge_slowly(const std::vector<BpeMerge>& merges, Ids tokens) {
  for (;;) {
    std::size_t best = merges.size(), at = 0;
    for (std::size_t i = 0; i + 1 < tokens.size(); ++i) {
      for (std::size_t rank = 0; rank < best; ++rank) {
        if (merges[rank].left != tokens[i] || merges[rank].right != tokens[i + 1]) continue;
        best = rank;
        at = i;
      }
    }
    if (best == merges.size()) return tokens;
    tokens[at] = merges[best].merged;
    tokens.erase(tokens.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
}

// Short words and long ones go different ways.
TEST(Merging, IsTheDefinitionsForWordsOfAnyLength) {
  std::mt19937_64 random(1);  // NOLINT(cert-msc51-cpp)
  for (int round = 0; round < 60; ++round) {
    std::vector<BpeMerge> merges;
    std::vector<std::array<std::int32_t, 2>> pairs;
    std::int32_t next = 3;
    while (merges.size() < 12) {
      const auto any = [&] {
        return static_cast<std::int32_t>(random() % static_cast<unsigned>(next));
      };
      const std::array<std::int32_t, 2> pair = {any(), any()};
      if (std::ranges::count(pairs, pair) > 0) continue;
      pairs.push_back(pair);
      merges.push_back({.left = pair[0], .right = pair[1], .merged = next++});
    }
    const MergeTable table(merges);
    for (const std::size_t length : {1, 2, 3, 10, 63, 64, 65, 66, 200, 500}) {
      Ids tokens(length);
      for (auto& token : tokens) token = static_cast<std::int32_t>(random() % (1 + random() % 3));
      const Ids expected = merge_slowly(merges, tokens);
      tokens.resize(merge_tokens(table, tokens));
      ASSERT_EQ(tokens, expected) << "round " << round << " length " << length;
    }
  }
}

void expect_equal(const BpeVocabulary& a, const BpeVocabulary& b) {
  EXPECT_EQ(a.tokens, b.tokens);
  EXPECT_EQ(a.merges, b.merges);
  EXPECT_EQ(a.end_of_text, b.end_of_text);
  EXPECT_EQ(a.end_of_text_name, b.end_of_text_name);
  EXPECT_EQ(a.other_names, b.other_names);
}

TEST(HuggingFaceFiles, AreReadAsTheyWereWritten) {
  const TempDir folder;
  const BpeVocabulary vocabulary = parse_merges({.name = "m", .text = kMerges});
  write_tokenizer_files(*bpe_tokenizer(vocabulary, "m"), folder.path());
  expect_equal(*bpe_vocabulary(*open_tokenizer(folder.path().string())), vocabulary);
  expect_equal(*bpe_vocabulary(*open_tokenizer(folder / "tokenizer.json")), vocabulary);
  EXPECT_EQ(test::read_file(folder / "merges.txt"), kMerges);
  EXPECT_EQ(describe_bpe(folder.path()).at("merges"), 5);

  std::filesystem::remove(folder / "tokenizer.json");
  expect_equal(*bpe_vocabulary(*open_tokenizer(folder.path().string())), vocabulary);
  std::filesystem::remove(folder / "vocab.json");
  expect_equal(*bpe_vocabulary(*open_tokenizer(folder.path().string())), vocabulary);
  EXPECT_EQ(open_tokenizer(folder / "merges.txt")->name(), folder / "merges.txt");
}

TEST(HuggingFaceFiles, HaveBytesAsTokens) {
  const TempDir folder;
  write_tokenizer_files(*byte_tokenizer(), folder.path());
  const auto tokenizer = open_tokenizer(folder.path().string());
  std::string every_byte;
  for (int byte = 0; byte < 256; ++byte) every_byte += static_cast<char>(byte);
  EXPECT_EQ(encode(*tokenizer, every_byte), encode(*byte_tokenizer(), every_byte));
  EXPECT_EQ(tokenizer->vocab(), 256);
  EXPECT_EQ(tokenizer->end_of_text(), std::nullopt);
  EXPECT_EQ(tokenizer->first_token(), '\n');
}

// Beside vocab.json and merges.txt, tokenizer.json alone says how text is split.
TEST(HuggingFaceFiles, OfAFolderTokenizerJsonGoesFirst) {
  const TempDir folder;
  const BpeVocabulary vocabulary = parse_merges({.name = "m", .text = kMerges});
  write_tokenizer_files(*bpe_tokenizer(vocabulary, "m"), folder.path());
  auto json = test::parse_json(test::read_file(folder / "tokenizer.json"));
  // As the Hub has GPT-2's: without what later versions of tokenizers have added.
  for (const char* key : {"type", "byte_fallback", "ignore_merges"}) json["model"].erase(key);
  json["pre_tokenizer"].erase("use_regex");
  json["post_processor"] = {
      {"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", false}};
  folder.write("tokenizer.json", json.dump());
  expect_equal(*bpe_vocabulary(*open_tokenizer(folder.path().string())), vocabulary);

  json["pre_tokenizer"] = {
      {"type", "Sequence"},
      {"pretokenizers",
       {{{"type", "Digits"}, {"individual_digits", true}}, json["pre_tokenizer"]}}};
  folder.write("tokenizer.json", json.dump());
  EXPECT_EQ(error_of([&] { open_tokenizer(folder.path().string()); }),
            "exit 3: " + folder / "tokenizer.json" +
                ": pre_tokenizer: must be {\"type\": \"ByteLevel\"}, GPT-2's split pattern");
}

// Special tokens, also one that has the name of a byte and of an id beyond a gap.
TEST(HuggingFaceFiles, KeepTheNamesOfTokensWithoutText) {
  const TempDir folder, saved;
  write_tokenizer_files(*bpe_tokenizer(parse_merges({.name = "m", .text = kMerges}), "m"),
                        folder.path());
  auto json = test::parse_json(test::read_file(folder / "tokenizer.json"));
  json["model"]["vocab"]["[\u4e2d]"] = 270;
  json["added_tokens"].push_back({{"id", 300}, {"content", "<pad>"}, {"special", true}});
  json["added_tokens"].push_back({{"id", 301}, {"content", "a"}, {"special", true}});
  const auto tokenizer = open_tokenizer(folder.write("special.json", json.dump()));
  EXPECT_EQ(tokenizer->vocab(), 302);
  write_tokenizer_files(*tokenizer, saved.path());
  const auto opened = open_tokenizer(saved.path().string());
  EXPECT_TRUE(same_tokens(*opened, *tokenizer));
  expect_equal(*bpe_vocabulary(*opened), *bpe_vocabulary(*tokenizer));
  EXPECT_EQ(encode(*opened, "aab"), encode(*tokenizer, "aab"));
}

// Ids in another order, gaps, an end of text of another name.
TEST(HuggingFaceFiles, MayHaveAnyIds) {
  const TempDir folder;
  nlohmann::json vocab = {{"th", 7}, {"</s>", 300}, {"<pad>\u4e2d", 301}};
  for (const std::string& byte : byte_vocabulary().tokens) {
    vocab[symbols_of_bytes(byte)] = 10 + static_cast<unsigned char>(byte[0]);
  }
  folder.write("vocab.json", vocab.dump());
  folder.write("merges.txt", "t h\n");
  folder.write("tokenizer_config.json", R"({"eos_token": {"content": "</s>"}})");
  const auto tokenizer = open_tokenizer(folder.path().string());
  EXPECT_EQ(encode(*tokenizer, "that"), (Ids{7, 10 + 'a', 10 + 't'}));
  EXPECT_EQ(tokenizer->end_of_text(), 300);
  EXPECT_EQ(tokenizer->vocab(), 302);
  EXPECT_EQ(tokenizer->bytes(301), "");
  EXPECT_EQ(tokenizer->bytes(0), "");
}

// What a change of a sound tokenizer.json is refused with.
std::string json_error(const std::function<void(nlohmann::json&)>& change) {
  const TempDir folder;
  write_tokenizer_files(*bpe_tokenizer(parse_merges({.name = "m", .text = kMerges}), "m"),
                        folder.path());
  auto json = test::parse_json(test::read_file(folder / "tokenizer.json"));
  change(json);
  return error_of([&] {
    bpe_tokenizer(parse_tokenizer_json({.name = "t", .text = json.dump()}, "<|endoftext|>"), "t");
  });
}

TEST(HuggingFaceFiles, OfOtherKindsAreRefused) {
  using Json = nlohmann::json;
  EXPECT_EQ(json_error([](Json&) {}), "");
  EXPECT_EQ(json_error([](Json& j) { j["model"]["merges"][0] = {"t", "h"}; }), "");
  EXPECT_EQ(
      json_error([](Json& j) { j["model"]["merges"][1] = 7; }),
      "exit 3: t: merge 2: must be two tokens with a space between them, such as \"t h\", not "
      "\"7\"");
  EXPECT_EQ(json_error([](Json& j) { j["model"]["merges"][1] = j["model"]["merges"][0]; }),
            "exit 3: t: merge 2: merges two tokens that merge already");
  EXPECT_EQ(json_error([](Json& j) { j["model"]["vocab"].erase("the"); }),
            "exit 3: t: merge 2: \"the\" is not a token");
  EXPECT_EQ(json_error([](Json& j) { j["model"]["vocab"]["!"] = 1; }),
            "exit 3: t: the tokens \"!\" and \"\\\"\" have the same id 1");
  EXPECT_EQ(json_error([](Json& j) { j["model"]["vocab"]["!"] = 1e9; }),
            "exit 3: t: the id of \"!\" must be a whole number below 1000000, not 1000000000.0");
  EXPECT_EQ(json_error([](Json& j) {
              j["model"]["vocab"]["!"] = 700;
              j["model"]["vocab"].erase("a");
              j["model"]["merges"] = Json::array();
            }),
            "exit 3: t: has no token for the byte 97; byte-level BPE has one for each");
  EXPECT_EQ(
      json_error([](Json& j) { j["model"]["type"] = "Unigram"; }),
      "exit 3: t: model: \"type\" must be \"BPE\", which is all that Lathe knows, not \"Unigram\"");
  EXPECT_EQ(json_error([](Json& j) {
              j["normalizer"] = {{"type", "NFC"}};
            }),
            "exit 3: t: \"normalizer\" must be null, which is all that Lathe knows, not "
            "{\"type\":\"NFC\"}");
  EXPECT_EQ(json_error([](Json& j) { j["pre_tokenizer"]["add_prefix_space"] = true; }),
            "exit 3: t: pre_tokenizer: \"add_prefix_space\" must be false, which is all that Lathe "
            "knows, not true");
  EXPECT_EQ(json_error([](Json& j) { j["pre_tokenizer"]["type"] = "Split"; }),
            "exit 3: t: pre_tokenizer: must be {\"type\": \"ByteLevel\"}, GPT-2's split pattern");
  EXPECT_EQ(
      json_error([](Json& j) { j["added_tokens"][0]["special"] = false; }),
      "exit 3: t: added_tokens \"<|endoftext|>\": \"special\" must be true, which is all that "
      "Lathe knows, not false");
  EXPECT_EQ(json_error([](Json& j) { j.erase("model"); }), "exit 3: t: must have \"model\"");
}

std::string llmc_file(std::array<std::uint32_t, 4> header, const std::vector<std::string>& tokens) {
  std::string bytes(1024, '\0');
  std::memcpy(bytes.data(), header.data(), sizeof header);
  for (const std::string& token : tokens) bytes += static_cast<char>(token.size()) + token;
  return bytes;
}

std::string llmc_error(const std::string& bytes) {
  return error_of([&] { parse_llmc_tokenizer({.name = "b", .text = bytes}); });
}

TEST(LlmcTokenizer, OnlyDecodes) {
  const TempDir folder;
  const std::string path = folder.write(
      "tokenizer.bin", llmc_file({20240328, 2, 3, 2}, {"a", " \xFF", "<|endoftext|>"}));
  const auto tokenizer = open_tokenizer(path);
  EXPECT_EQ(tokenizer->vocab(), 3);
  EXPECT_EQ(tokenizer->end_of_text(), 2);
  EXPECT_EQ(decode(*tokenizer, Ids{1, 2, 0, 3}),
            " \xFF"
            "a");
  EXPECT_EQ(error_of([&] { tokenizer->make_encoder(); }),
            "exit 2: " + path +
                ": llm.c's tokenizer file has no merges and can only "
                "decode; gpt2, a vocab.bpe and a tokenizer.json can encode");
  EXPECT_EQ(error_of([&] { write_tokenizer_files(*tokenizer, folder.path()); }),
            "exit 2: " + path +
                ": has no merges, so Hugging Face's tokenizer files "
                "cannot be made of it; they can of gpt2, a vocab.bpe or a tokenizer.json");
  const Facts facts = describe_llmc_tokenizer(path);
  EXPECT_EQ(facts.at("version"), 2);
  EXPECT_EQ(facts.at("tokens_of_partial_characters"), 1);
}

// Its file may be that of a run which another one replaces.
TEST(LlmcTokenizer, IsSavedWithoutItsFile) {
  const TempDir folder;
  const std::string bytes = llmc_file({20240328, 2, 2, 1}, {"a", "<|endoftext|>"});
  const auto tokenizer = open_tokenizer(folder.write("tokenizer.bin", bytes));
  std::filesystem::remove(folder / "tokenizer.bin");
  save_tokenizer(*tokenizer, folder.path());
  EXPECT_EQ(test::read_file(folder / "tokenizer.bin"), bytes);
}

TEST(LlmcTokenizer, IsRefusedWhenItIsNotWhole) {
  const std::string good = llmc_file({20240328, 2, 2, 1}, {"a", "bc"});
  EXPECT_EQ(llmc_error(good), "");
  EXPECT_EQ(llmc_error(good.substr(0, 1023)),
            "exit 3: b: has 1023 bytes, where the header of an llm.c tokenizer has 1024");
  EXPECT_EQ(llmc_error(good.substr(0, 1028)), "exit 3: b: ends at byte 1028, inside token 1 of 2");
  EXPECT_EQ(llmc_error(good.substr(0, 1026)), "exit 3: b: ends at byte 1026, inside token 1 of 2");
  EXPECT_EQ(llmc_error(good + "x"), "exit 3: b: has 1 bytes after its 2 tokens");
  EXPECT_EQ(llmc_error(llmc_file({20240328, 3, 1, 0}, {"a"})),
            "exit 3: b: is an llm.c tokenizer of version 3; 1 and 2 are known");
  EXPECT_EQ(llmc_error(llmc_file({20240328, 2, 1, 1}, {"a"})),
            "exit 3: b: has 1 tokens, but its end of text is 1");
  EXPECT_EQ(llmc_error(llmc_file({20240328, 1, 1, 0}, {"a"})),
            "exit 3: b: has 1 tokens, but its end of text is 50256");
  EXPECT_EQ(llmc_error(llmc_file({1, 2, 1, 0}, {"a"})),
            "exit 3: b: begins with magic number 1, that of an llm.c tokenizer is 20240328");
}

// An environment of its own for what open_tokenizer looks at.
class Variables {
 public:
  explicit Variables(const std::string& folder) {
    for (const char* name : kNames) {
      const char* value = std::getenv(name);
      before_.emplace_back(value == nullptr ? std::nullopt : std::optional<std::string>(value));
      ::unsetenv(name);
    }
    ::setenv("HOME", folder.c_str(), 1);
  }
  ~Variables() {
    for (std::size_t i = 0; i < kNames.size(); ++i) {
      before_[i] ? ::setenv(kNames[i], before_[i]->c_str(), 1) : ::unsetenv(kNames[i]);
    }
  }

 private:
  static constexpr std::array<const char*, 3> kNames = {"HOME", "XDG_CACHE_HOME",
                                                        "LATHE_GPT2_VOCAB"};
  std::vector<std::optional<std::string>> before_;
};

TEST(OpenTokenizer, SaysWhereToGetGpt2AndChecksIt) {
  const TempDir home;
  const Variables variables(home.path().string());
  const std::string advice =
      "; get https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/vocab.bpe (sha256 "
      "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5), and put it there or name "
      "its place in LATHE_GPT2_VOCAB";
  const auto error = [] { return error_of([] { open_tokenizer("gpt2"); }); };
  EXPECT_EQ(error(), "exit 2: --tokenizer gpt2: there is no file " +
                         home / ".cache/lathe/vocab.bpe" + advice);
  ::setenv("XDG_CACHE_HOME", (home / "x").c_str(), 1);
  EXPECT_EQ(error(),
            "exit 2: --tokenizer gpt2: there is no file " + home / "x/lathe/vocab.bpe" + advice);
  const std::string other = home.write("x/lathe/vocab.bpe", "abc");
  EXPECT_EQ(
      error(),
      "exit 3: " + other +
          ": is not GPT-2's vocab.bpe: its sha256 is "
          "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad, must be "
          "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5; get it from "
          "https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/vocab.bpe, or give "
          "--tokenizer the path of another");
  ::setenv("LATHE_GPT2_VOCAB", (home / "none").c_str(), 1);
  EXPECT_EQ(error(), "exit 2: --tokenizer gpt2: there is no file " + home / "none" + advice);
  EXPECT_EQ(
      error_of([&] { open_tokenizer(home / "none"); }),
      "exit 2: --tokenizer " + home / "none" +
          ": must be bytes, gpt2, or the path of a vocab.bpe, a tokenizer.json, a folder with "
          "them, or llm.c's tokenizer .bin; there is no such path");
  EXPECT_EQ(error_of([&] { open_tokenizer(home.path().string()); }),
            "exit 2: --tokenizer " + home.path().string() +
                ": a folder without a tokenizer: tokenizer.json, vocab.json and merges.txt, or "
                "vocab.bpe");
  if (const char* data = std::getenv("LATHE_TEST_DATA")) {
    ::setenv("LATHE_GPT2_VOCAB", (std::string(data) + "/gpt2/vocab.bpe").c_str(), 1);
    EXPECT_EQ(error(), "");
    EXPECT_EQ(open_tokenizer("gpt2")->name(), "gpt2");
  }
}

// By the definition: all pairs are counted again for each merge.
std::vector<std::string> learn_slowly(const WordCounts& words, std::size_t merges) {
  std::vector<std::pair<std::vector<std::string>, std::int64_t>> split;
  std::map<std::string, std::size_t> age;
  for (const std::string& byte : byte_vocabulary().tokens) age.emplace(byte, age.size());
  for (const auto& [word, count] : words) {
    split.emplace_back();
    split.back().second = count;
    for (const char c : word) split.back().first.emplace_back(1, c);
  }
  std::vector<std::string> learned;
  while (learned.size() < merges) {
    std::map<std::pair<std::size_t, std::size_t>, std::int64_t> counts;
    std::map<std::size_t, std::string> names;
    for (const auto& [name, number] : age) names[number] = name;
    for (const auto& [tokens, count] : split) {
      for (std::size_t i = 0; i + 1 < tokens.size(); ++i) {
        counts[{age[tokens[i]], age[tokens[i + 1]]}] += count;
      }
    }
    const auto best = std::ranges::max_element(
        counts, [](const auto& a, const auto& b) { return a.second < b.second; });
    if (best == counts.end() || best->second < 2) break;
    const std::string left = names[best->first.first], right = names[best->first.second];
    learned.push_back(left + right);
    age.emplace(left + right, age.size());
    for (auto& [tokens, count] : split) {
      for (std::size_t i = 0; i + 1 < tokens.size(); ++i) {
        if (tokens[i] != left || tokens[i + 1] != right) continue;
        tokens[i] += right;
        tokens.erase(tokens.begin() + static_cast<std::ptrdiff_t>(i) + 1);
      }
    }
  }
  return learned;
}

TEST(Learning, TakesTheMostFrequentPairAndOfEqualOnesTheOldest) {
  std::mt19937_64 random(2);  // NOLINT(cert-msc51-cpp)
  for (int round = 0; round < 40; ++round) {
    WordCounts words;
    for (int i = 0; i < 30; ++i) {
      std::string word;
      for (auto length = random() % 9; length > 0; --length) word += "ab\xC3 z"[random() % 5];
      words[word] += static_cast<std::int64_t>(1 + random() % 4);
    }
    const BpeVocabulary learned = learn_bpe(words, 257 + 40);
    std::vector<std::string> merged;
    for (const BpeMerge& merge : learned.merges) {
      merged.push_back(learned.tokens[static_cast<std::size_t>(merge.merged)]);
    }
    // The definition above cannot say what becomes of a token that is made a second time.
    if (std::set(merged.begin(), merged.end()).size() < merged.size()) continue;
    ASSERT_EQ(merged, learn_slowly(words, 40)) << "round " << round;
  }
}

TEST(Learning, EndsWhenNothingRepeats) {
  WordCounts words;
  count_words("abc abd", words);
  EXPECT_EQ(words, (WordCounts{{"abc", 1}, {" abd", 1}}));
  const BpeVocabulary learned = learn_bpe(words, 1000);
  EXPECT_EQ(learned.tokens.size(), 258u);
  EXPECT_EQ(learned.tokens[256], "ab");
  EXPECT_EQ(learned.end_of_text, 257);
  EXPECT_EQ(learn_bpe(words, 257).merges.size(), 0u);
  EXPECT_EQ(error_of([&] { learn_bpe(words, 256); }),
            "exit 2: --vocab 256: must be at least 257: the bytes and the end of text");
}

}  // namespace
}  // namespace lathe
