// A dataset: a folder of token shards made from text, and dataset.json, which says what they are
// (docs/formats.md). Its files get their names when all of them are whole; dataset.json comes last,
// so a folder that has it is complete.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "lathe/files.h"
#include "lathe/tokenizer.h"

namespace lathe {

inline constexpr const char* kDatasetFile = "dataset.json";
inline constexpr const char* kTokenizerFolder = "tokenizer";
inline constexpr const char* kTokenizerFile = "tokenizer.bin";  // of one that only decodes
inline constexpr const char* kTrainPrefix = "train";            // train_000001.bin
inline constexpr const char* kValPrefix = "val";                // val_000000.bin
inline constexpr std::int64_t kFirstTrainShard = 1, kFirstValShard = 0;

struct DatasetPart {
  std::int64_t tokens = 0, shards = 0;
  bool operator==(const DatasetPart&) const = default;
};

struct Dataset {
  std::string tokenizer;  // as saved_tokenizer_name
  std::int64_t vocab = 0;
  std::optional<std::int64_t> end_of_text;
  std::int64_t bytes = 0, documents = 0;  // read
  DatasetPart train, val;
  std::vector<std::string> sources;  // files as they were named
  bool operator==(const Dataset&) const = default;
};

// nullopt: the folder has no dataset.json. Error(data) for one that is not sound.
std::optional<Dataset> read_dataset(const std::filesystem::path& folder);

std::string dataset_text(const Dataset& dataset);  // of dataset.json

// What files call a tokenizer: "bytes" and "gpt2" are the same everywhere; any other one is saved
// beside them, as the folder "tokenizer".
std::string saved_tokenizer_name(const Tokenizer& tokenizer);

// Saves it into `folder`, if it is one that is saved and is not there yet. Errors: storage.
void save_tokenizer(const Tokenizer& tokenizer, const std::filesystem::path& folder);

// The tokenizer that files in `folder` call by this name. Errors: as open_tokenizer.
std::shared_ptr<const Tokenizer> open_saved_tokenizer(const std::string& name,
                                                      const std::filesystem::path& folder);

// Whether every id stands for the same in both.
bool same_tokens(const Tokenizer& a, const Tokenizer& b);

// Refuses a folder that cannot take a dataset: because it holds one and may not be overwritten, or
// files of another origin that a pattern for shards would match. Error(usage), naming --out.
void check_dataset_folder(const std::filesystem::path& folder, bool overwrite);

// Writes a dataset: first into a hidden folder, then in the place of an earlier one. A process that
// is killed in between leaves the earlier one or, where the new one was whole, what the next writer
// makes the new one of. Only one process at a time does that in a folder, where its file system has
// locks.
class DatasetWriter {
 public:
  enum class WhenLocked { refuse, wait };

  // Makes the folder, and finishes what a killed process has committed there. Errors: storage;
  // usage for a folder that another process is writing to. While it waits it may be stopped by a
  // signal: then staging() is empty.
  DatasetWriter(const std::filesystem::path& folder, WhenLocked when_locked);
  DatasetWriter(const DatasetWriter&) = delete;
  DatasetWriter& operator=(const DatasetWriter&) = delete;
  ~DatasetWriter();  // removes what was not committed, and folders made for it

  const std::filesystem::path& staging() const { return staging_; }  // for shards, until commit()

  void commit(const Dataset& dataset, const Tokenizer& tokenizer);

 private:
  void make_folders();
  bool lock(WhenLocked when_locked);

  std::filesystem::path folder_, staging_;
  FileDescriptor lock_;
  std::vector<std::filesystem::path> made_;  // folders, the deepest first
};

}  // namespace lathe
