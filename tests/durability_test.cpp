// A checkpoint is on the disk before it has its name: every file and folder is synced, in an order
// that leaves nothing half-written wherever the power fails.
#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "lathe/files.h"
#include "support/host_backend.h"
#include "support/sample_checkpoint.h"
#include "support/temp_dir.h"

namespace {

std::vector<std::string> synced;  // paths, in order

}  // namespace

// Stands in for the C library's in this program: notes the path, then syncs.
extern "C" int fsync(int descriptor) {
  const std::string link = "/proc/self/fd/" + std::to_string(descriptor);
  synced.push_back(std::filesystem::read_symlink(link).string());
  return static_cast<int>(syscall(SYS_fsync, descriptor));
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

}  // namespace
}  // namespace lathe
