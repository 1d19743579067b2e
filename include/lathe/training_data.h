// What --train and --val mean: token shards, text files, or the stories that Lathe makes itself.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "lathe/options.h"
#include "lathe/token_files.h"
#include "lathe/tokenizer.h"

namespace lathe {

struct ValidationData {
  TokenFiles files;
  std::vector<float> floor;  // nats of each byte under the grammar that wrote it; else empty
};

struct TrainingData {
  TokenFiles train;
  std::optional<ValidationData> val;  // none: shards without --val
  std::int64_t vocab;
  bool is_text;                                   // what --train names, or the stories
  std::string tokenizer_name;                     // saved_tokenizer_name, or "none": not known
  std::shared_ptr<const Tokenizer> tokenizer;     // nullptr: not known, or not on this machine
  std::string summary;                            // one line for the log
  std::vector<std::string> messages;              // and more of them
  std::vector<std::string> warnings = {};         // said to a quiet user too
  std::map<std::string, std::string> token_keys;  // of tokens.json (docs/formats.md)
};

// What a run that goes on has begun with; of a new one, --tokenizer and no keys.
struct DataOrigin {
  std::string tokenizer;                          // of its checkpoint
  std::map<std::string, std::string> token_keys;  // of its tokens.json
  bool may_tokenize = true;  // a plan may not: it goes without a --val that is not tokenised yet
};

// Opens and checks everything before a run makes anything, but for the cache of its tokens. Errors:
// data, usage, storage.
TrainingData open_training_data(const Options& options, const DataOrigin& origin);

// The vocabulary of a --train that this would tokenise first; nullopt: it would not.
std::optional<std::int64_t> vocab_of_new_text(const Options& options);

// The data of `lathe eval`: --val, or the embedded stories' validation part without it. Of text
// that is no bytes, `tokenizer` makes at least `tokens` tokens, if there are so many, and not many
// more. Errors: data, also for shards of another tokenizer, usage, and what `tokenizer` throws.
struct ValidationSpec {
  std::int64_t vocab;
  std::int64_t tokens;
  std::string tokenizer_name;  // as ModelInfo::tokenizer
  std::function<const Tokenizer&()> tokenizer;
};
ValidationData open_validation_data(const Options& options, const ValidationSpec& spec);

}  // namespace lathe
