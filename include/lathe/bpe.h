// Byte-level BPE, GPT-2's tokenizer: text is split into words (docs/formats.md), a word is first
// its bytes, and then neighbours are merged, the pair of the lowest rank first, until no pair of
// neighbours is in the list.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "lathe/tokenizer.h"

namespace lathe {

struct BpeMerge {
  std::int32_t left, right;  // the tokens that become one
  std::int32_t merged;       // its bytes are theirs, one after the other
  bool operator==(const BpeMerge&) const = default;
};

struct BpeVocabulary {
  std::vector<std::string> tokens;  // the bytes of each id; "" for one that stands for no text
  std::vector<BpeMerge> merges;     // by rank
  std::optional<std::int32_t> end_of_text;
  std::string end_of_text_name = "<|endoftext|>";        // in files
  std::map<std::int32_t, std::string> other_names = {};  // of other tokens that stand for no text
};

// `name` is what the tokenizer is called. Every byte must be a token.
std::shared_ptr<const Tokenizer> bpe_tokenizer(BpeVocabulary vocabulary, const std::string& name);

// nullptr: it is another kind of tokenizer.
const BpeVocabulary* bpe_vocabulary(const Tokenizer& tokenizer);

// Writes vocab.json, merges.txt, tokenizer.json, tokenizer_config.json and special_tokens_map.json,
// which Hugging Face's transformers and tokenizers load and open_tokenizer reads, into a folder
// that exists. Throws Error: usage for a tokenizer that can only decode, storage.
void write_tokenizer_files(const Tokenizer& tokenizer, const std::filesystem::path& folder);

// How often each word, bytes of the split pattern, occurs in texts.
using WordCounts = std::unordered_map<std::string, std::int64_t>;

// Adds the words of a text.
void count_words(std::string_view text, WordCounts& counts);

// Learns the merges of `vocab` tokens, the bytes and the end of text among them (Sennrich et al.
// 2016): again and again the two neighbours that occur most often in the words become one token; of
// equally frequent pairs the one whose tokens are older, the left one first. Ends before when no
// pair occurs twice. As Hugging Face's BpeTrainer does it with min_frequency 2.
// Throws Error(usage) for a vocab that does not hold every byte and the end of text.
BpeVocabulary learn_bpe(const WordCounts& words, std::int64_t vocab);

}  // namespace lathe
