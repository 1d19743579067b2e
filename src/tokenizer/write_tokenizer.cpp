// Hugging Face's tokenizer files, written.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "bpe_files.h"
#include "lathe/error.h"
#include "lathe/files.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// Bytes as tokens are a BPE without merges.
BpeVocabulary vocabulary_of(const Tokenizer& tokenizer) {
  if (const BpeVocabulary* bpe = bpe_vocabulary(tokenizer)) return *bpe;
  if (tokenizer.name() != "bytes") {
    throw Error(ExitCode::usage,
                fmt::format("{}: has no merges, so Hugging Face's tokenizer files cannot be made "
                            "of it; they can of gpt2, a vocab.bpe or a tokenizer.json",
                            tokenizer.name()));
  }
  BpeVocabulary vocabulary;
  for (std::int32_t id = 0; id < tokenizer.vocab(); ++id) {
    vocabulary.tokens.emplace_back(tokenizer.bytes(id));
  }
  return vocabulary;
}

// Names of the tokens that stand for no text, by id.
std::map<std::int32_t, std::string> special_names(const BpeVocabulary& vocabulary) {
  std::map<std::int32_t, std::string> names = vocabulary.other_names;
  if (vocabulary.end_of_text) names[*vocabulary.end_of_text] = vocabulary.end_of_text_name;
  return names;
}

// A special token may have a text's name: then only tokenizer.json's added_tokens has it.
json vocab_json(const BpeVocabulary& vocabulary) {
  json ids = json::object();
  for (std::size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    const std::string& bytes = vocabulary.tokens[id];
    if (!bytes.empty()) ids[symbols_of_bytes(bytes)] = id;
  }
  for (const auto& [id, name] : special_names(vocabulary)) ids.emplace(name, id);
  return ids;
}

std::vector<std::string> written_merges(const BpeVocabulary& vocabulary) {
  const auto symbols = [&](std::int32_t id) {
    return symbols_of_bytes(vocabulary.tokens[static_cast<std::size_t>(id)]);
  };
  std::vector<std::string> merges;
  for (const BpeMerge& merge : vocabulary.merges) {
    merges.push_back(symbols(merge.left) + ' ' + symbols(merge.right));
  }
  return merges;
}

// "a b" and not ["a", "b"]: older versions of tokenizers read only the first.
json tokenizer_json(const BpeVocabulary& vocabulary) {
  const json byte_level = {{"type", "ByteLevel"},
                           {"add_prefix_space", false},
                           {"trim_offsets", true},
                           {"use_regex", true}};
  json added = json::array();
  for (const auto& [id, name] : special_names(vocabulary)) {
    added.push_back({{"id", id},
                     {"content", name},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", true}});
  }
  const json model = {{"type", "BPE"},
                      {"dropout", nullptr},
                      {"unk_token", nullptr},
                      {"continuing_subword_prefix", ""},
                      {"end_of_word_suffix", ""},
                      {"fuse_unk", false},
                      {"byte_fallback", false},
                      {"ignore_merges", false},
                      {"vocab", vocab_json(vocabulary)},
                      {"merges", written_merges(vocabulary)}};
  return {{"version", "1.0"},          {"truncation", nullptr}, {"padding", nullptr},
          {"added_tokens", added},     {"normalizer", nullptr}, {"pre_tokenizer", byte_level},
          {"post_processor", nullptr}, {"decoder", byte_level}, {"model", model}};
}

// The tokens that have a part of their own. Without an end of text GPT-2's class would add one.
json special_tokens(const BpeVocabulary& vocabulary) {
  if (!vocabulary.end_of_text) return json::object();
  const std::string& name = vocabulary.end_of_text_name;
  return {{"bos_token", name}, {"eos_token", name}, {"unk_token", name}};
}

json tokenizer_config(const BpeVocabulary& vocabulary) {
  json config = special_tokens(vocabulary);
  config["tokenizer_class"] = vocabulary.end_of_text ? "GPT2Tokenizer" : "PreTrainedTokenizerFast";
  config["add_prefix_space"] = false;
  config["clean_up_tokenization_spaces"] = false;
  return config;
}

}  // namespace

void write_tokenizer_files(const Tokenizer& tokenizer, const fs::path& folder) {
  const BpeVocabulary vocabulary = vocabulary_of(tokenizer);
  std::string merges = "#version: 0.2\n";
  for (const std::string& merge : written_merges(vocabulary)) merges += merge + '\n';
  const auto write = [&](const char* name, const json& contents, int indent) {
    write_file_atomically(folder / name, contents.dump(indent) + '\n');
  };
  constexpr int kOneLine = -1;
  constexpr int kIndented = 2;
  write("vocab.json", vocab_json(vocabulary), kOneLine);
  write_file_atomically(folder / "merges.txt", merges);
  write("tokenizer.json", tokenizer_json(vocabulary), kOneLine);
  write("tokenizer_config.json", tokenizer_config(vocabulary), kIndented);
  write("special_tokens_map.json", special_tokens(vocabulary), kIndented);
}

}  // namespace lathe
