// A checkpoint is on the disk before it has its name: every file and folder is synced, in an order
// that leaves nothing half-written wherever the power fails. A dataset takes the place of another
// with one of them there wherever the process is killed.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "data/token_cache.h"
#include "lathe/dataset.h"
#include "lathe/files.h"
#include "lathe/run_folder.h"
#include "support/error_of.h"
#include "support/host_backend.h"
#include "support/sample_checkpoint.h"
#include "support/temp_dir.h"

namespace {

std::vector<std::string> synced;  // paths, in order
int steps_to_live = 0;            // of what changes the disk; 0: any number
bool is_to_be_stopped = false;    // at the next sync

void take_step() {
  if (steps_to_live == 1) _exit(9);
  if (steps_to_live > 1) --steps_to_live;
}

}  // namespace

// Stands in for the C library's in this program: notes the path, then syncs.
extern "C" int fsync(int descriptor) {
  const std::string link = "/proc/self/fd/" + std::to_string(descriptor);
  synced.push_back(std::filesystem::read_symlink(link).string());
  take_step();
  if (std::exchange(is_to_be_stopped, false)) std::raise(SIGTERM);
  return static_cast<int>(syscall(SYS_fsync, descriptor));
}

extern "C" int rename(const char* from, const char* to) noexcept {
  take_step();
  return static_cast<int>(syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0));
}

extern "C" int remove(const char* path) noexcept {
  take_step();
  if (syscall(SYS_unlinkat, AT_FDCWD, path, 0) == 0) return 0;
  return static_cast<int>(syscall(SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR));
}

namespace lathe {
namespace {

std::ptrdiff_t position(const std::filesystem::path& path) {
  return std::find(synced.begin(), synced.end(), path.string()) - synced.begin();
}

TEST(Durability, ACheckpointIsSyncedBeforeAndAfterItGetsItsName) {
  const test::TempDir run;
  test::HostBackend backend;
  test::SampleCheckpoint sample(DType::bf16, 1);
  synced.clear();
  save_checkpoint(run.path(), backend, sample.data(5));
  const auto count = static_cast<std::ptrdiff_t>(synced.size());
  const std::filesystem::path checkpoints = run.path() / "checkpoints";
  const std::filesystem::path partial = checkpoints / ".partial-step-00000005";
  for (const char* name : {"model.safetensors", "optimizer.safetensors", "state.json"}) {
    EXPECT_LT(position(partial / name), position(partial)) << name;
  }
  EXPECT_LT(position(partial), count) << "the folder's entries";
  EXPECT_LT(position(run.path()), position(partial)) << "the new folder's name";
  EXPECT_GT(position(checkpoints), position(partial)) << "its final name";
  EXPECT_LT(position(checkpoints), count);
}

TEST(Durability, AnAtomicallyWrittenFileIsSyncedWithItsFolder) {
  const test::TempDir dir;
  synced.clear();
  write_file_atomically(dir.path() / "result.json", "{}");
  ASSERT_EQ(synced.size(), 2u);
  EXPECT_NE(synced[0], (dir.path() / "result.json").string());  // under another name
  EXPECT_EQ(std::filesystem::path(synced[0]).parent_path(), dir.path());
  EXPECT_EQ(synced[1], dir.path().string());
}

// A finished run is not gone on with: what it has measured cannot come again.
TEST(Durability, MetricsAreSyncedBeforeTheResultOfTheRun) {
  const test::TempDir dir;
  const std::filesystem::path folder = dir.path() / "run";
  RunFolder run({.folder = folder,
                 .resumed = std::nullopt,
                 .config = "",
                 .quiet = true,
                 .llmc_log = true,
                 .tensorboard = false},
                RunFolder::lock(folder));
  run.validation(1, 2.5);
  synced.clear();
  RunResult result;
  result.status = "finished";
  run.write_result(result);
  for (const char* name : {"metrics.jsonl", "main.log"}) {
    EXPECT_LT(position(folder / name), position(folder / ".result.json.partial")) << name;
  }
  EXPECT_LT(position(folder / ".result.json.partial"), std::ssize(synced));
}

namespace fs = std::filesystem;

// A dataset of so many shards, each of which holds the dataset's name.
struct NamedDataset {
  std::string name;
  std::int64_t shards;

  Dataset description() const {
    return {.tokenizer = "bytes",
            .vocab = 256,
            .end_of_text = std::nullopt,
            .train = {.tokens = 7, .shards = shards},
            .val = {},
            .sources = {name}};
  }

  void write_into(const fs::path& folder) const {
    DatasetWriter writer(folder, DatasetWriter::WhenLocked::refuse);
    for (std::int64_t i = 1; i <= shards; ++i) {
      OutputFile(writer.staging() / ("train_00000" + std::to_string(i) + ".bin")).write(name);
    }
    writer.commit(description(), *byte_tokenizer());
  }

  void expect_in(const fs::path& folder) const {
    std::int64_t files = 0;
    for (const auto& entry : fs::directory_iterator(folder)) {
      if (++files; entry.path().filename() == kDatasetFile) continue;
      EXPECT_EQ(read_file(entry.path(), ExitCode::data), name) << entry.path();
    }
    EXPECT_EQ(files, shards + 1);
  }
};

TEST(Durability, ADatasetReplacesAnotherWhereverItIsKilled) {
  const NamedDataset before{.name = "before", .shards = 3}, after{.name = "after", .shards = 2};
  bool is_replaced = false;
  int step = 0, exit_code = 9;
  while (exit_code != 0) {
    SCOPED_TRACE(++step);
    const test::TempDir dir;
    const fs::path folder = dir.path() / "tokens";
    before.write_into(folder);
    const pid_t child = ::fork();
    if (child == 0) {
      steps_to_live = step;
      after.write_into(folder);
      _exit(0);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    exit_code = WEXITSTATUS(status);
    { const DatasetWriter next(folder, DatasetWriter::WhenLocked::refuse); }
    const auto found = read_dataset(folder);
    ASSERT_TRUE(found);
    const bool was_replaced = std::exchange(is_replaced, *found == after.description());
    EXPECT_TRUE(is_replaced || !was_replaced);
    (is_replaced ? after : before).expect_in(folder);
  }
  EXPECT_TRUE(is_replaced);
  EXPECT_GT(step, 18);
}

TEST(Durability, NewFoldersOfADatasetAreSyncedInTheirParents) {
  const test::TempDir dir;
  synced.clear();
  NamedDataset{.name = "a", .shards = 1}.write_into(dir.path() / "new/tokens/");
  for (const fs::path& parent : {dir.path(), dir.path() / "new"}) {
    EXPECT_LT(position(parent), std::ssize(synced)) << parent;
  }
}

// When the tokens are there and only have to get to the disk.
TEST(Durability, AStopSignalAtTheEndOfTokenisingIsHeard) {
  const test::TempDir dir;
  const CacheSpec spec{.text = {.paths = {dir.write("a.txt", "text")},
                                .lines = std::nullopt,
                                .text_field = "text",
                                .validation_fraction = 0,
                                .threads = 1},
                       .folder = dir.path() / "cache",
                       .label = "--train a.txt",
                       .expected_key = "",
                       .is_quiet = true};
  is_to_be_stopped = true;
  const std::string error = test::error_of([&] { find_or_make_tokens(spec, *byte_tokenizer()); });
  const auto kept = find_tokens(spec, *byte_tokenizer());
  ASSERT_TRUE(kept);
  EXPECT_EQ(error, "exit 143: --train a.txt: stopped by signal 15; its tokens are kept in " +
                       kept->folder.string());
}

}  // namespace
}  // namespace lathe
