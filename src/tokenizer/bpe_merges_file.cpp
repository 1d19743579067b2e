// vocab.bpe of GPT-2 and merges.txt of Hugging Face: a line for each merge, by rank.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "base/strict_json.h"
#include "bpe_files.h"
#include "lathe/error.h"

namespace lathe {
namespace {

// Printable characters of Latin-1 stand for themselves.
bool is_printable(int byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

std::string utf8(int code) {
  if (code < 0x80) return {static_cast<char>(code)};
  return {static_cast<char>(0xC0 | code >> 6), static_cast<char>(0x80 | (code & 0x3F))};
}

// The others are U+0100 and what follows, in ascending order.
std::array<std::string, 256> make_symbols() {
  std::array<std::string, 256> symbols;
  int next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    symbols[static_cast<std::size_t>(byte)] = utf8(is_printable(byte) ? byte : next++);
  }
  return symbols;
}

const std::array<std::string, 256>& byte_symbols() {
  static const std::array<std::string, 256> symbols = make_symbols();
  return symbols;
}

const std::unordered_map<std::string_view, char>& bytes_by_symbol() {
  static const auto bytes = [] {
    std::unordered_map<std::string_view, char> found;
    for (int byte = 0; byte < 256; ++byte) {
      found.emplace(byte_symbols()[static_cast<std::size_t>(byte)], static_cast<char>(byte));
    }
    return found;
  }();
  return bytes;
}

[[noreturn]] void refuse(const MergePlace& place, const std::string& reason) {
  throw Error(ExitCode::data,
              fmt::format("{}: {} {}: {}", place.file, place.unit, place.number, reason));
}

}  // namespace

std::string symbols_of_bytes(std::string_view bytes) {
  std::string symbols;
  for (const char c : bytes) symbols += byte_symbols()[static_cast<unsigned char>(c)];
  return symbols;
}

std::optional<std::string> bytes_of_symbols(std::string_view symbols) {
  std::string bytes;
  while (!symbols.empty()) {
    const auto lead = static_cast<unsigned char>(symbols[0]);
    const std::string_view symbol = symbols.substr(0, lead < 0x80 ? 1 : 2);
    const auto found = bytes_by_symbol().find(symbol);
    if (found == bytes_by_symbol().end()) return std::nullopt;
    bytes += found->second;
    symbols.remove_prefix(symbol.size());
  }
  return bytes;
}

BpeVocabulary byte_vocabulary() {
  BpeVocabulary vocabulary;
  for (const bool printable : {true, false}) {
    for (int byte = 0; byte < 256; ++byte) {
      if (is_printable(byte) != printable) continue;
      vocabulary.tokens.emplace_back(1, static_cast<char>(byte));
    }
  }
  return vocabulary;
}

MergeList::MergeList(BpeVocabulary& vocabulary) : vocabulary_(vocabulary) {
  for (std::size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    if (vocabulary.tokens[id].empty()) continue;
    ids_.emplace(vocabulary.tokens[id], static_cast<std::int32_t>(id));
  }
}

std::int32_t MergeList::id(const std::string& bytes, const MergePlace& place) const {
  if (const auto found = ids_.find(bytes); found != ids_.end()) return found->second;
  refuse(place, fmt::format("{} is not a token", quote(symbols_of_bytes(bytes))));
}

void MergeList::expect(std::size_t merges) {
  ids_.reserve(ids_.size() + merges);
  pairs_.reserve(pairs_.size() + merges);
  vocabulary_.tokens.reserve(vocabulary_.tokens.size() + merges);
  vocabulary_.merges.reserve(vocabulary_.merges.size() + merges);
}

void MergeList::add_token(const std::string& bytes, const MergePlace& place) {
  const auto id = static_cast<std::int32_t>(vocabulary_.tokens.size());
  if (!ids_.emplace(bytes, id).second) {
    refuse(place,
           fmt::format("makes {}, which is a token already", quote(symbols_of_bytes(bytes))));
  }
  vocabulary_.tokens.push_back(bytes);
}

void MergeList::add(const WrittenMerge& merge, const MergePlace& place) {
  const BpeMerge found = {.left = id(merge.left, place),
                          .right = id(merge.right, place),
                          .merged = id(merge.left + merge.right, place)};
  const auto pair =
      static_cast<std::uint64_t>(found.left) << 32 | static_cast<std::uint32_t>(found.right);
  if (!pairs_.insert(pair).second) refuse(place, "merges two tokens that merge already");
  vocabulary_.merges.push_back(found);
}

WrittenMerge MergeList::parse(std::string_view line, const MergePlace& place) {
  const std::size_t space = line.find(' ');
  if (space != line.npos) {
    auto left = bytes_of_symbols(line.substr(0, space));
    auto right = bytes_of_symbols(line.substr(space + 1));
    if (left && right && !left->empty() && !right->empty()) {
      return {.left = *std::move(left), .right = *std::move(right)};
    }
  }
  refuse(place, fmt::format("must be two tokens with a space between them, such as \"t h\", not {}",
                            quote(line)));
}

void add_merge_lines(const NamedText& file, MergeList& list, TokensOfMerges tokens) {
  std::string_view rest = file.text;
  list.expect(static_cast<std::size_t>(std::ranges::count(rest, '\n')));
  for (std::size_t number = 1; !rest.empty(); ++number) {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    const std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (number == 1 && line.starts_with("#version")) continue;
    const MergePlace place = {.file = file.name, .unit = "line", .number = number};
    const WrittenMerge merge = MergeList::parse(line, place);
    if (tokens == TokensOfMerges::follow) list.add_token(merge.left + merge.right, place);
    list.add(merge, place);
  }
}

BpeVocabulary parse_merges(const NamedText& file) {
  BpeVocabulary vocabulary = byte_vocabulary();
  MergeList list(vocabulary);
  add_merge_lines(file, list, TokensOfMerges::follow);
  if (vocabulary.merges.empty()) {
    throw Error(ExitCode::data, fmt::format("{}: has no merges", file.name));
  }
  vocabulary.end_of_text = static_cast<std::int32_t>(vocabulary.tokens.size());
  vocabulary.tokens.emplace_back();
  return vocabulary;
}

}  // namespace lathe
