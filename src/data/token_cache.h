// Tokens of texts that a run trains on, kept beside it: made once, and found again by every run in
// the same place that wants the same tokens of the same text (docs/formats.md).
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "lathe/dataset.h"
#include "lathe/tokenize.h"

namespace lathe {

struct CacheSpec {
  TextSpec text;
  std::filesystem::path folder;  // of the cache
  std::string label;             // "--train my.txt": what messages call the text
  std::string expected_key;      // of a run that goes on; "": any
  bool is_quiet;
};

struct CachedTokens {
  std::string key;               // a checksum of all that decides what the tokens are
  std::filesystem::path folder;  // a dataset with parts
  Dataset dataset;
  std::string message;  // a line that says where they come from
  bool operator==(const CachedTokens&) const = default;
};

// The folder "token-cache" beside a run's.
std::filesystem::path default_token_cache(const std::filesystem::path& run);

// What there is already; nullopt: nothing. Reads the texts, since their bytes say which tokens.
std::optional<CachedTokens> find_tokens(const CacheSpec& spec, const Tokenizer& tokenizer);

// What there is, or else made now. A stop signal in the meantime ends in an Error with its exit
// code. Several processes may want the same: one makes it, the others wait.
CachedTokens find_or_make_tokens(const CacheSpec& spec, const Tokenizer& tokenizer);

}  // namespace lathe
