// The files that a byte-level BPE is kept in (docs/formats.md), as text. What is not understood
// throws Error(data) that begins with the file's name.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

#include "lathe/bpe.h"

namespace lathe {

inline constexpr std::string_view kGpt2Sha256 =  // of GPT-2's vocab.bpe
    "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5";

// These files write each byte as a character that can be seen, its symbol.
std::string symbols_of_bytes(std::string_view bytes);
std::optional<std::string> bytes_of_symbols(std::string_view symbols);  // nullopt: not all are

// A vocabulary of GPT-2's ids of bytes and nothing else: printable ones first, each kind ascending.
BpeVocabulary byte_vocabulary();

struct NamedText {
  std::string name;  // of the file, for messages
  std::string text;
};

// vocab.bpe or merges.txt alone. The ids follow: the bytes, the merges by rank, the end of text.
BpeVocabulary parse_merges(const NamedText& file);

// Hugging Face's vocab.json, a map of tokens to ids, with merges.txt; and tokenizer.json.
BpeVocabulary parse_vocabulary(const NamedText& vocab_json, const NamedText& merges,
                               const std::string& end_of_text_name);
BpeVocabulary parse_tokenizer_json(const NamedText& file, const std::string& end_of_text_name);

// The token that tokenizer_config.json or special_tokens_map.json name as the end of a text.
std::optional<std::string> parse_end_of_text_name(const NamedText& file);

// Where a merge is written: "vocab.bpe: line 7".
struct MergePlace {
  std::string_view file;
  const char* unit;
  std::size_t number;
};

struct WrittenMerge {
  std::string left, right;  // bytes
};

// Adds merges to a vocabulary, by rank; none may come twice.
class MergeList {
 public:
  explicit MergeList(BpeVocabulary& vocabulary);  // with the tokens that there are
  void expect(std::size_t merges);                // room for so many more
  void add_token(const std::string& bytes, const MergePlace& place);  // with the next id
  void add(const WrittenMerge& merge, const MergePlace& place);
  // A line of merges.txt.
  static WrittenMerge parse(std::string_view line, const MergePlace& place);

 private:
  std::int32_t id(const std::string& bytes, const MergePlace& place) const;

  BpeVocabulary& vocabulary_;
  std::unordered_map<std::string, std::int32_t> ids_;
  std::unordered_set<std::uint64_t> pairs_;
};

// Adds the lines of vocab.bpe or merges.txt. Where nothing else says what the tokens are, they
// follow from the merges: each makes the next one.
enum class TokensOfMerges { follow, are_there };
void add_merge_lines(const NamedText& file, MergeList& list, TokensOfMerges tokens);

}  // namespace lathe
