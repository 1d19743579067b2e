// What --train and --val mean: token shards, text files, or the stories that Lathe makes itself.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "lathe/options.h"
#include "lathe/token_files.h"

namespace lathe {

struct ValidationData {
  TokenFiles files;
  std::vector<float> floor;  // nats of each byte under the grammar that wrote it; else empty
};

struct TrainingData {
  TokenFiles train;
  std::optional<ValidationData> val;  // none: shards without --val
  std::int64_t vocab;
  std::string summary;  // one line for the log
};

// Opens and checks everything before a run makes anything. Errors: data, usage.
TrainingData open_training_data(const Options& options);

// The data of `lathe eval`: --val, or the embedded stories' validation part without it.
ValidationData open_validation_data(const Options& options, std::int64_t vocab);

}  // namespace lathe
