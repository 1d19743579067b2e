// Hugging Face's files of a byte-level BPE, read: vocab.json with merges.txt, and tokenizer.json.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/strict_json.h"
#include "bpe_files.h"
#include "lathe/error.h"

namespace lathe {
namespace {

using nlohmann::json;

constexpr std::int64_t kMostTokens = 1'000'000;  // a damaged id must not ask for much memory

[[noreturn]] void refuse(const std::string& source, const std::string& reason) {
  throw Error(ExitCode::data, fmt::format("{}: {}", source, reason));
}

// A value for an error message: ASCII, cut short.
std::string json_text(const json& value) {
  constexpr bool kAsciiOnly = true;
  return value.dump(-1, ' ', kAsciiOnly).substr(0, 60);
}

std::size_t checked_id(const json& id, const std::string& token, const std::string& source) {
  if (id.is_number_unsigned() && id.get<std::uint64_t>() < kMostTokens) {
    return id.get<std::size_t>();
  }
  refuse(source, fmt::format("the id of {} must be a whole number below {}, not {}", quote(token),
                             kMostTokens, json_text(id)));
}

// The tokens of a map of names to ids.
class TokenMap {
 public:
  TokenMap(BpeVocabulary& vocabulary, std::string source)
      : vocabulary_(vocabulary), source_(std::move(source)) {}

  // A name that is not in symbols stands for no text.
  void add(const std::string& name, const json& written_id) {
    const std::size_t id = place(name, written_id);
    if (auto bytes = bytes_of_symbols(name)) {
      vocabulary_.tokens[id] = *std::move(bytes);
      find_end_of_text(name, id);
    } else {
      keep_name(name, id);
    }
  }

  // A token that no merge makes, whatever its name looks like. It may be among the others too.
  void add_special(const std::string& name, const json& written_id) {
    keep_name(name, place(name, written_id));
  }

 private:
  std::size_t place(const std::string& name, const json& written_id) {
    const std::size_t id = checked_id(written_id, name, source_);
    if (id >= names_.size()) {
      names_.resize(id + 1);
      vocabulary_.tokens.resize(id + 1);
    }
    if (names_[id] && *names_[id] != name) {
      refuse(source_, fmt::format("the tokens {} and {} have the same id {}", quote(*names_[id]),
                                  quote(name), id));
    }
    names_[id] = name;
    return id;
  }

  void keep_name(const std::string& name, std::size_t id) {
    vocabulary_.tokens[id].clear();
    if (!find_end_of_text(name, id)) {
      vocabulary_.other_names[static_cast<std::int32_t>(id)] = name;
    }
  }

  bool find_end_of_text(const std::string& name, std::size_t id) {
    if (name != vocabulary_.end_of_text_name) return false;
    vocabulary_.end_of_text = static_cast<std::int32_t>(id);
    vocabulary_.tokens[id].clear();
    return true;
  }

  BpeVocabulary& vocabulary_;
  std::string source_;
  std::vector<std::optional<std::string>> names_;  // by id
};

const json& member(const json& object, const char* key, const std::string& source) {
  if (object.is_object() && object.contains(key)) return object.at(key);
  refuse(source, fmt::format("must have \"{}\"", key));
}

void add_vocab(const json& vocab, TokenMap& tokens, const std::string& source) {
  if (!vocab.is_object()) refuse(source, "must be an object of tokens and their ids");
  for (const auto& [name, id] : vocab.items()) tokens.add(name, id);
}

// What changes which tokens a text has; absent is as good as the value that does nothing.
void require(const json& object, const char* key, const std::vector<json>& allowed,
             const std::string& source) {
  if (!object.contains(key) || std::ranges::count(allowed, object.at(key)) > 0) return;
  refuse(source, fmt::format("\"{}\" must be {}, which is all that Lathe knows, not {}", key,
                             allowed.front().dump(), json_text(object.at(key))));
}

void check_pre_tokenizer(const json& pre_tokenizer, const std::string& source) {
  if (!pre_tokenizer.is_object() || !pre_tokenizer.contains("type") ||
      pre_tokenizer.at("type") != "ByteLevel") {
    refuse(source, "must be {\"type\": \"ByteLevel\"}, GPT-2's split pattern");
  }
  require(pre_tokenizer, "add_prefix_space", {false}, source);
  require(pre_tokenizer, "use_regex", {true}, source);
}

void check_model(const json& model, const std::string& source) {
  require(model, "type", {"BPE"}, source);
  require(model, "dropout", {nullptr, 0.0}, source);
  require(model, "continuing_subword_prefix", {"", nullptr}, source);
  require(model, "end_of_word_suffix", {"", nullptr}, source);
  require(model, "byte_fallback", {false}, source);
  require(model, "ignore_merges", {false}, source);
}

void add_special_tokens(const json& added, TokenMap& tokens, const std::string& source) {
  if (!added.is_array()) refuse(source, "must be an array");
  for (const json& token : added) {
    const json& name = member(token, "content", source);
    if (!name.is_string()) refuse(source, "\"content\" must be a string");
    require(token, "special", {true}, fmt::format("{} {}", source, quote(name.get<std::string>())));
    tokens.add_special(name.get<std::string>(), member(token, "id", source));
  }
}

// "a b" or ["a", "b"].
WrittenMerge merge_of(const json& merge, const MergePlace& place) {
  if (merge.is_string()) return MergeList::parse(merge.get<std::string>(), place);
  const bool is_pair =
      merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string();
  if (!is_pair) return MergeList::parse(merge.dump(), place);
  return MergeList::parse(merge[0].get<std::string>() + ' ' + merge[1].get<std::string>(), place);
}

}  // namespace

BpeVocabulary parse_vocabulary(const NamedText& vocab_json, const NamedText& merges,
                               const std::string& end_of_text_name) {
  BpeVocabulary vocabulary;
  vocabulary.end_of_text_name = end_of_text_name;
  TokenMap tokens(vocabulary, vocab_json.name);
  add_vocab(parse_json(vocab_json.text, vocab_json.name, ExitCode::data), tokens, vocab_json.name);
  MergeList list(vocabulary);
  add_merge_lines(merges, list, TokensOfMerges::are_there);
  return vocabulary;
}

BpeVocabulary parse_tokenizer_json(const NamedText& file, const std::string& end_of_text_name) {
  const json root = parse_json(file.text, file.name, ExitCode::data);
  const json& model = member(root, "model", file.name);
  const json& merges = member(model, "merges", file.name + ": model");
  if (!merges.is_array()) refuse(file.name, "\"merges\" must be an array");
  check_model(model, file.name + ": model");
  require(root, "normalizer", {nullptr}, file.name);
  check_pre_tokenizer(member(root, "pre_tokenizer", file.name), file.name + ": pre_tokenizer");

  BpeVocabulary vocabulary;
  vocabulary.end_of_text_name = end_of_text_name;
  TokenMap tokens(vocabulary, file.name);
  add_vocab(member(model, "vocab", file.name + ": model"), tokens, file.name + ": vocab");
  if (root.contains("added_tokens")) {
    add_special_tokens(root.at("added_tokens"), tokens, file.name + ": added_tokens");
  }
  MergeList list(vocabulary);
  MergePlace place = {.file = file.name, .unit = "merge", .number = 0};
  for (const json& merge : merges) {
    ++place.number;
    list.add(merge_of(merge, place), place);
  }
  return vocabulary;
}

std::optional<std::string> parse_end_of_text_name(const NamedText& file) {
  const json root = parse_json(file.text, file.name, ExitCode::data);
  if (!root.is_object() || !root.contains("eos_token")) return std::nullopt;
  const json& token = root.at("eos_token");
  const json& name = token.is_object() ? member(token, "content", file.name) : token;
  if (name.is_null()) return std::nullopt;
  if (!name.is_string()) refuse(file.name, "\"eos_token\" must be a string");
  return name.get<std::string>();
}

}  // namespace lathe
