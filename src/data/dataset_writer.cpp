#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <system_error>
#include <thread>

#include "base/file_kind.h"
#include "lathe/dataset.h"
#include "lathe/error.h"
#include "lathe/shard_writer.h"
#include "lathe/stop_signal.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPartialPrefix = ".partial-";
constexpr const char* kCommitted = ".committed";  // whole, to take the place of what is there
constexpr const char* kMoving = ".moving";        // the same, when what was there is gone

[[noreturn]] void fail(const fs::path& path, const char* action, const std::error_code& why) {
  throw Error(ExitCode::storage,
              fmt::format("{}: cannot {}: {}", path.string(), action, why.message()));
}

std::error_code last_error() {
  return {errno, std::generic_category()};
}

std::vector<fs::path> entries(const fs::path& folder) {
  std::vector<fs::path> paths;
  std::error_code error;
  fs::directory_iterator at(folder, error);
  for (; !error && at != fs::directory_iterator(); at.increment(error)) paths.push_back(at->path());
  if (error && error != std::errc::no_such_file_or_directory) fail(folder, "be listed", error);
  return paths;
}

bool is_of_dataset(const std::string& name) {
  return name == kDatasetFile || name == kTokenizerFolder || is_shard_name(name);
}

fs::path without_last_slash(const fs::path& folder) {
  return folder.has_filename() || !folder.has_parent_path() ? folder : folder.parent_path();
}

void remove_entry(const fs::path& path) {
  std::error_code error;
  fs::remove_all(path, error);
  if (error) fail(path, "remove", error);
}

void rename_entry(const fs::path& from, const fs::path& to) {
  std::error_code error;
  fs::rename(from, to, error);
  if (error) fail(to, "create", error);
}

void rename_into(const fs::path& file, const fs::path& folder) {
  rename_entry(file, folder / file.filename());
}

// Puts a committed dataset in the place of what is there. Killed anywhere in between, it is taken
// up again by the next call: nothing is removed or moved before what it depends on is on the disk.
void finish_commit(const fs::path& folder) {
  if (const fs::path committed = folder / kCommitted; fs::exists(committed)) {
    remove_entry(folder / kDatasetFile);  // first, so that what it says of the others stays true
    sync_folder(folder);
    for (const fs::path& path : entries(folder)) {
      if (is_of_dataset(path.filename().string())) remove_entry(path);
    }
    sync_folder(folder);
    rename_entry(committed, folder / kMoving);
    sync_folder(folder);
  }
  const fs::path moving = folder / kMoving;
  if (!fs::exists(moving)) return;
  for (const fs::path& path : entries(moving)) {
    if (path.filename() != kDatasetFile) rename_into(path, folder);
  }
  sync_folder(folder);
  if (fs::exists(moving / kDatasetFile)) rename_into(moving / kDatasetFile, folder);
  sync_folder(folder);
  remove_entry(moving);
}

bool is_at(const FileDescriptor& file, const fs::path& path) {
  struct stat a {
  }, b{};
  return ::fstat(file.number(), &a) == 0 && ::stat(path.c_str(), &b) == 0 && a.st_ino == b.st_ino &&
         a.st_dev == b.st_dev;
}

// A name alone does not make a file ours to remove. Error(usage) for one whose content does not.
void require_ours(const fs::path& path) {
  const auto refuse = [&](const char* reason) {
    throw Error(ExitCode::usage,
                fmt::format("--out {}: holds {}, {}; give another folder, or move it away",
                            path.parent_path().string(), path.filename().string(), reason));
  };
  if (path.filename() != kDatasetFile) {
    if (file_kind(path) != FileKind::token_shard) refuse("which is no token shard");
    return;
  }
  try {
    read_dataset(path.parent_path());
  } catch (const Error&) {
    refuse("which is not one that lathe tokenize writes");
  }
}

}  // namespace

void check_dataset_folder(const fs::path& folder, bool overwrite) {
  const auto refuse = [&](const std::string& reason) {
    throw Error(ExitCode::usage, fmt::format("--out {}: {}", folder.string(), reason));
  };
  std::error_code ignored;
  if (!fs::exists(folder, ignored)) return;
  if (!fs::is_directory(folder, ignored)) refuse("is a file, must be a folder");
  require_no_other(FolderKind::dataset, folder);
  // Half of a dataset: DatasetWriter makes a whole one of it, and then is the time to look.
  if (fs::exists(folder / kCommitted, ignored) || fs::exists(folder / kMoving, ignored)) return;
  bool holds_dataset = false, holds_tokenizer = false;
  for (const fs::path& path : entries(folder)) {
    const std::string name = path.filename().string();
    if (name == kTokenizerFolder) holds_tokenizer = true;
    if (name == kDatasetFile || is_shard_name(name)) {
      require_ours(path);
      holds_dataset = true;
    } else if (name.ends_with(".bin")) {
      refuse(fmt::format(
          "holds {}, which would be taken for one of its shards; give another folder", name));
    }
  }
  if (holds_tokenizer && !holds_dataset) {
    refuse(fmt::format("holds a {} of another origin; give another folder", kTokenizerFolder));
  }
  if (holds_dataset && !overwrite) {
    refuse("holds shards; give --overwrite to replace them, or another folder");
  }
}

DatasetWriter::DatasetWriter(const fs::path& folder, WhenLocked when_locked)
    : folder_(without_last_slash(folder)) {
  while (lock_.number() < 0 || !is_at(lock_, folder_)) {  // who had the lock may have removed it
    make_folders();
    lock_ = FileDescriptor(::open(folder_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (lock_.number() < 0 && errno == ENOENT) continue;
    if (lock_.number() < 0) fail(folder_, "open", last_error());
    if (!lock(when_locked)) return;
  }
  std::string name = (folder_ / fmt::format("{}XXXXXX", kPartialPrefix)).string();
  if (::mkdtemp(name.data()) == nullptr) fail(folder_, "write", last_error());
  staging_ = name;
}

void DatasetWriter::make_folders() {
  std::vector<fs::path> missing;
  std::error_code error;
  for (fs::path path = folder_; !path.empty() && !fs::exists(path, error);
       path = path.parent_path()) {
    missing.push_back(path);
  }
  made_.insert(made_.begin(), missing.begin(), missing.end());
  fs::create_directories(folder_, error);
  if (error) fail(folder_, "create", error);
}

// False: a signal came first. Without locks in the file system two processes write into a folder
// each, and the last one's dataset stays.
bool DatasetWriter::lock(WhenLocked when_locked) {
  constexpr auto kBetweenLooks = std::chrono::milliseconds(50);  // for a stop signal
  while (::flock(lock_.number(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EINTR) continue;
    if (errno != EWOULDBLOCK) return true;
    if (when_locked == WhenLocked::refuse) {
      throw Error(ExitCode::usage, fmt::format("--out {}: another process is writing shards there; "
                                               "wait for it, or give another folder",
                                               folder_.string()));
    }
    if (is_stop_requested()) return false;
    std::this_thread::sleep_for(kBetweenLooks);
  }
  finish_commit(folder_);
  for (const fs::path& path : entries(folder_)) {
    if (path.filename().string().starts_with(kPartialPrefix))
      remove_entry(path);  // of a killed process
  }
  return true;
}

void DatasetWriter::commit(const Dataset& dataset, const Tokenizer& tokenizer) {
  save_tokenizer(tokenizer, staging_);
  write_file_atomically(staging_ / kDatasetFile, dataset_text(dataset));
  for (const fs::path& path : made_) sync_folder(path.has_parent_path() ? path.parent_path() : ".");
  finish_commit(folder_);  // another's: where there are no locks
  rename_entry(staging_, folder_ / kCommitted);
  staging_.clear();
  sync_folder(folder_);
  finish_commit(folder_);
}

DatasetWriter::~DatasetWriter() {
  std::error_code ignored;
  if (!staging_.empty()) fs::remove_all(staging_, ignored);
  for (const fs::path& path : made_) fs::remove(path, ignored);  // if there is nothing in it
}

}  // namespace lathe
