#include "lathe/dataset.h"

#include <fmt/format.h>

#include <limits>
#include <nlohmann/json.hpp>

#include "base/strict_json.h"
#include "lathe/bpe.h"
#include "lathe/error.h"
#include "shard_format.h"
#include "tokenizer/llmc_tokenizer.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using nlohmann::ordered_json;

constexpr const char* kFormat = "lathe dataset";
constexpr int kVersion = 1;

bool is_known_everywhere(const std::string& tokenizer) {
  return tokenizer == "bytes" || tokenizer == "gpt2";
}

// Takes values out of a parsed dataset.json, refusing what is absent or of another kind.
class DatasetReader {
 public:
  DatasetReader(const json& root, std::string path) : root_(root), path_(std::move(path)) {}

  [[noreturn]] void refuse(const std::string& message) const {
    throw Error(ExitCode::data, fmt::format("{}: {}", path_, message));
  }

  const json& at(const json& object, const char* key) const {
    if (!object.is_object() || !object.contains(key)) refuse(fmt::format("has no \"{}\"", key));
    return object.at(key);
  }

  std::int64_t number(const json& object, const char* key, std::int64_t most) const {
    const json& value = at(object, key);
    if (!value.is_number_unsigned() || value.get<std::uint64_t>() > std::uint64_t(most)) {
      refuse(fmt::format("\"{}\" must be a whole number up to {}", key, most));
    }
    return value.get<std::int64_t>();
  }

  std::string text(const json& object, const char* key) const {
    const json& value = at(object, key);
    if (!value.is_string()) refuse(fmt::format("\"{}\" must be a string", key));
    return value.get<std::string>();
  }

  DatasetPart part(const char* key) const {
    const json& value = at(root_, key);
    return {.tokens = number(value, "tokens", kMost), .shards = number(value, "shards", kMost)};
  }

  Dataset read() const {
    if (const auto found = text(root_, "format"); found != kFormat) {
      refuse(fmt::format("format {}, must be \"{}\"", quote(found), kFormat));
    }
    if (const auto found = number(root_, "version", kMost); found != kVersion) {
      refuse(fmt::format("format version {}, this Lathe reads version {}", found, kVersion));
    }
    Dataset dataset{.tokenizer = text(root_, "tokenizer"),
                    .vocab = number(root_, "vocab", ShardHeader::kMostIds),
                    .end_of_text = std::nullopt,
                    .bytes = number(root_, "bytes", kMost),
                    .documents = number(root_, "documents", kMost),
                    .train = part(kTrainPrefix),
                    .val = part(kValPrefix),
                    .sources = {}};
    if (!at(root_, "end_of_text").is_null()) {
      dataset.end_of_text = number(root_, "end_of_text", ShardHeader::kMostIds - 1);
    }
    if (!at(root_, "sources").is_array()) refuse("\"sources\" must be an array");
    for (const json& source : root_.at("sources")) {
      if (!source.is_string()) refuse("\"sources\" must hold strings");
      dataset.sources.push_back(source.get<std::string>());
    }
    const bool has_name = is_known_everywhere(dataset.tokenizer) ||
                          dataset.tokenizer == kTokenizerFolder ||
                          dataset.tokenizer == kTokenizerFile;
    if (!has_name) refuse(fmt::format("\"tokenizer\" is {}", quote(dataset.tokenizer)));
    if (dataset.vocab == 0) refuse("\"vocab\" must not be 0");
    return dataset;
  }

 private:
  static constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();

  const json& root_;
  std::string path_;
};

ordered_json to_json(const DatasetPart& part) {
  return {{"tokens", part.tokens}, {"shards", part.shards}};
}

}  // namespace

std::optional<Dataset> read_dataset(const fs::path& folder) {
  const fs::path path = folder / kDatasetFile;
  std::error_code ignored;
  if (!fs::exists(path, ignored)) return std::nullopt;
  const json root = parse_json(read_file(path, ExitCode::data), path.string(), ExitCode::data);
  return DatasetReader(root, path.string()).read();
}

std::string dataset_text(const Dataset& dataset) {
  ordered_json root = {{"format", kFormat},
                       {"version", kVersion},
                       {"tokenizer", dataset.tokenizer},
                       {"vocab", dataset.vocab},
                       {"end_of_text", nullptr},
                       {"bytes", dataset.bytes},
                       {"documents", dataset.documents},
                       {kTrainPrefix, to_json(dataset.train)},
                       {kValPrefix, to_json(dataset.val)},
                       {"sources", dataset.sources}};
  if (dataset.end_of_text) root["end_of_text"] = *dataset.end_of_text;
  constexpr bool kAsciiOnly = false;
  return root.dump(2, ' ', kAsciiOnly, json::error_handler_t::replace) + "\n";
}

std::string saved_tokenizer_name(const Tokenizer& tokenizer) {
  if (is_known_everywhere(tokenizer.name())) return tokenizer.name();
  return bpe_vocabulary(tokenizer) != nullptr ? kTokenizerFolder : kTokenizerFile;
}

void save_tokenizer(const Tokenizer& tokenizer, const fs::path& folder) {
  const std::string name = saved_tokenizer_name(tokenizer);
  if (is_known_everywhere(name) || fs::exists(folder / name)) return;
  if (name == kTokenizerFile) {
    const std::string* text = llmc_tokenizer_text(tokenizer);
    if (text != nullptr) return write_file_atomically(folder / name, *text);
    throw Error(ExitCode::usage,
                fmt::format("--tokenizer {}: is of a kind that has no file", tokenizer.name()));
  }
  std::error_code error;
  fs::create_directory(folder / name, error);
  if (error) {
    throw Error(ExitCode::storage, fmt::format("{}: cannot be created: {}",
                                               (folder / name).string(), error.message()));
  }
  write_tokenizer_files(tokenizer, folder / name);
  sync_folder(folder / name);
}

std::shared_ptr<const Tokenizer> open_saved_tokenizer(const std::string& name,
                                                      const fs::path& folder) {
  return open_tokenizer(is_known_everywhere(name) ? name : (folder / name).string());
}

bool same_tokens(const Tokenizer& a, const Tokenizer& b) {
  if (a.vocab() != b.vocab() || a.end_of_text() != b.end_of_text()) return false;
  for (std::int32_t token = 0; token < a.vocab(); ++token) {
    if (a.bytes(token) != b.bytes(token)) return false;
  }
  return true;
}

}  // namespace lathe
