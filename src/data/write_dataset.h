// Text into a dataset, with a progress bar: what `lathe tokenize` does, and `lathe train` for its
// cache.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "lathe/dataset.h"
#include "lathe/options.h"
#include "lathe/tokenize.h"

namespace lathe {

// What the options say of text and of the threads that encode it.
TextSpec text_spec(const Options& options, std::vector<std::string> paths,
                   double validation_fraction);

// The same of a command's arguments: files, patterns and stdin (-). Error(usage) for files that
// hold tokens or are not there, and for stdin given twice.
TextSpec text_of_arguments(const Options& options, const std::string& command,
                           double validation_fraction);

struct DatasetSpec {
  TextSpec text;
  std::string label;  // "--train my.txt": what messages call the text
  std::int64_t shard_tokens;
  bool has_parts;  // as in ShardSpec
  bool shows_progress;
};

// nullopt: a stop signal came, and nothing has been written. Errors: as tokenize(), data for text
// without any token, and storage.
std::optional<Dataset> write_dataset(const DatasetSpec& spec, const Tokenizer& tokenizer,
                                     DatasetWriter& writer);

}  // namespace lathe
