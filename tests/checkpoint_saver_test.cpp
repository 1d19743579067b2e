// Saving beside training: what training changes afterwards is not in the checkpoint, what the disk
// refuses is tried again, and nothing of it costs an earlier checkpoint.
#include "run/checkpoint_saver.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "lathe/error.h"
#include "lathe/stop_signal.h"
#include "support/compare.h"
#include "support/error_of.h"
#include "support/host_backend.h"
#include "support/sample_checkpoint.h"
#include "support/small_run.h"
#include "support/temp_dir.h"

namespace {

// What happens to the files of a checkpoint that is being written.
std::atomic<int> failing_writes = 0, failing_syncs = 0;
std::atomic<bool> writes_are_slow = false, syncs_are_held = false, were_held_too_long = false;
std::atomic<unsigned long> free_bytes_left = 0;  // of every disk; 0: what the system says

bool is_of_checkpoint(int descriptor) {
  std::error_code ignored;
  const std::string link = "/proc/self/fd/" + std::to_string(descriptor);
  const std::string path = std::filesystem::read_symlink(link, ignored).string();
  return path.find("/.partial-") != path.npos && path.ends_with(".safetensors");
}

void pause_shortly() {
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
}

bool fails(std::atomic<int>& times, int error) {
  if (times == 0) return false;
  --times;
  errno = error;
  return true;
}

}  // namespace

// Stand in for the C library's in this program.
extern "C" ssize_t write(int descriptor, const void* bytes, size_t count) {
  if (is_of_checkpoint(descriptor)) {
    if (writes_are_slow) pause_shortly();
    if (fails(failing_writes, ENOSPC)) return -1;
  }
  return syscall(SYS_write, descriptor, bytes, count);
}

extern "C" int fsync(int descriptor) {
  if (is_of_checkpoint(descriptor)) {
    for (int i = 0; syncs_are_held && i < 400; ++i) pause_shortly();
    if (syncs_are_held) were_held_too_long = true;
    if (fails(failing_syncs, EIO)) return -1;
  }
  return static_cast<int>(syscall(SYS_fsync, descriptor));
}

extern "C" int statvfs(const char* path, struct statvfs* found) noexcept {
  struct statfs status {};
  if (syscall(SYS_statfs, path, &status) != 0) return -1;
  *found = {};
  found->f_frsize = 1;
  found->f_blocks = 1;
  found->f_bavail = free_bytes_left > 0
                        ? free_bytes_left.load()
                        : status.f_bavail * static_cast<unsigned long>(status.f_bsize);
  return 0;
}

namespace lathe {
namespace {

namespace fs = std::filesystem;

// A GPU, as far as saving can tell.
class OwnMemory final : public test::HostBackend {
 public:
  std::optional<DeviceMemory> memory() const override { return DeviceMemory{1 << 30, 1 << 30}; }
};

constexpr double kStopSeconds = 0.3;

class Saver : public testing::Test {
 protected:
  void SetUp() override {
    failing_writes = failing_syncs = 0;
    writes_are_slow = syncs_are_held = were_held_too_long = false;
    free_bytes_left = 0;
    watch_stop_signals();
  }

  CheckpointSaver make(Backend& backend, bool background = true, std::int64_t retries = 10,
                       double retry_seconds = 0.01) {
    return CheckpointSaver(
        backend,
        {.run_folder = run_.path(),
         .logs = {},
         .keep = 0,
         .keep_every = 0,
         .keep_best = false,
         .background = background,
         .retries = retries,
         .retry_seconds = retry_seconds,
         .stop_seconds = kStopSeconds,
         .saved_step = -1},
        [this] { return sample_.data(step_); },
        [this](const auto& line) { said_.push_back(line); });
  }

  // As AdamW does to every value.
  void update() {
    for (const auto& tensors : {sample_.model(), sample_.optimizer()}) {
      for (const NamedTensor& tensor : tensors) {
        auto* bytes = static_cast<std::byte*>(tensor.memory.data());
        for (std::int64_t i = 0; i < tensor.memory.bytes(); ++i) bytes[i] ^= std::byte{0x5a};
      }
    }
    ++step_;
  }

  std::vector<std::byte> values() { return contents_of(sample_); }
  static std::vector<std::byte> contents_of(test::SampleCheckpoint& sample) {
    std::vector<std::byte> all = test::contents(sample.model());
    const std::vector<std::byte> more = test::contents(sample.optimizer());
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }

  // The tensors of the newest checkpoint, which must be of that step.
  std::vector<std::byte> saved(std::int64_t step) {
    const CheckpointInfo info = open_checkpoint(run_.path());
    EXPECT_EQ(info.state.step, step);
    test::SampleCheckpoint loaded(DType::bf16, 99);
    load_checkpoint(info, host_, loaded.model(), loaded.optimizer());
    return contents_of(loaded);
  }

  test::TempDir run_;
  test::HostBackend host_;
  test::SampleCheckpoint sample_{DType::bf16, 1};
  std::int64_t step_ = 5;
  std::vector<std::string> said_;
};

TEST_F(Saver, AnUpdateWaitsUntilAllHasBeenRead) {
  CheckpointSaver saver = make(host_);
  const auto before = values();
  writes_are_slow = true;
  saver.save();
  saver.before_update();
  update();
  saver.wait();
  EXPECT_TRUE(test::same_bits(saved(5), before));
  EXPECT_EQ(saver.saved_step(), 5);
}

TEST_F(Saver, AnUpdateDoesNotWaitForTheDisk) {
  CheckpointSaver saver = make(host_);
  const auto before = values();
  syncs_are_held = true;
  saver.save();
  saver.before_update();
  update();
  EXPECT_FALSE(were_held_too_long);
  saver.follow();
  EXPECT_EQ(saver.saved_step(), -1);
  syncs_are_held = false;
  saver.wait();
  EXPECT_TRUE(test::same_bits(saved(5), before));
}

TEST_F(Saver, OfADeviceWithMemoryOfItsOwnNothingWaits) {
  OwnMemory device;
  CheckpointSaver saver = make(device);
  const auto before = values();
  writes_are_slow = true;
  saver.save();
  update();
  saver.wait();
  EXPECT_TRUE(test::same_bits(saved(5), before));
  EXPECT_EQ(CheckpointSaver::memory_bytes(true, true, 100), 100);
  EXPECT_EQ(CheckpointSaver::memory_bytes(false, true, 100), 0);
  EXPECT_EQ(CheckpointSaver::memory_bytes(true, false, 100), 0);
}

TEST_F(Saver, InTheForegroundItIsDurableAtOnce) {
  OwnMemory device;
  CheckpointSaver saver = make(device, /*background=*/false);
  saver.save();
  EXPECT_TRUE(test::same_bits(saved(5), values()));
  EXPECT_EQ(fs::read_symlink(run_ / "checkpoints/latest"), "step-00000005");
}

TEST_F(Saver, AFailedSaveComesAgainWithTheStateOfThen) {
  CheckpointSaver saver = make(host_);
  saver.save();
  saver.wait();
  failing_writes = 2;
  update();
  saver.save();
  while (saver.saved_step() == 5) {
    saver.before_update();
    update();
    saver.follow();
    std::this_thread::sleep_for(std::chrono::milliseconds(3));
    EXPECT_TRUE(fs::exists(run_ / "checkpoints/step-00000005"));
  }
  EXPECT_EQ(saver.failed_saves(), 2);
  EXPECT_GT(saver.saved_step(), 6);
  EXPECT_EQ(open_checkpoint(run_.path()).state.step, saver.saved_step());
  ASSERT_EQ(said_.size(), 3u);
  EXPECT_TRUE(said_[0].starts_with("warning: step 6 is not saved, the next try comes in 0.01 s: "));
  EXPECT_TRUE(said_[0].ends_with("model.safetensors: cannot write: No space left on device"));
  EXPECT_TRUE(said_[2].ends_with("is saved, after 2 failed saves")) << said_[2];
}

// After a failed sync nobody knows what is on the disk: all of it is written anew.
TEST_F(Saver, AFailedSyncIsAFailedSave) {
  CheckpointSaver saver = make(host_);
  failing_syncs = 1;
  saver.finish();
  EXPECT_EQ(saver.failed_saves(), 1);
  EXPECT_TRUE(test::same_bits(saved(5), values()));
}

TEST_F(Saver, GivesUpWhenEveryRetryHasFailed) {
  for (const bool background : {true, false}) {
    CheckpointSaver saver = make(host_, background, /*retries=*/2);
    failing_writes = 1000;
    EXPECT_EQ(test::error_of([&] { saver.finish(); }).substr(0, 76),
              "exit 6: saving has failed 3 times in a row, --save-retries is 2: " +
                  run_.path().string().substr(0, 11));
    EXPECT_EQ(saver.failed_saves(), 3);
  }
}

// Without the limit the tries would go on for ever, a minute between them.
TEST_F(Saver, AStopSignalLeavesAFailingDiskALimitedTime) {
  for (const bool background : {true, false}) {
    watch_stop_signals();  // forgets the signal of before
    CheckpointSaver saver = make(host_, background, /*retries=*/1'000'000, /*retry_seconds=*/60);
    failing_writes = 1'000'000;
    std::raise(SIGTERM);
    const double begin = now();
    const std::string error = test::error_of([&] { saver.finish(); });
    EXPECT_TRUE(error.starts_with("exit 6: step 5 is not saved: ")) << error;
    EXPECT_TRUE(error.ends_with("model.safetensors: cannot write: No space left on device"));
    EXPECT_GE(now() - begin, kStopSeconds);
    EXPECT_LT(now() - begin, 10 * kStopSeconds);
    EXPECT_EQ(saver.failed_saves(), 2);  // at once, and when the time is over
    EXPECT_EQ(saver.saved_step(), -1);
  }
}

TEST_F(Saver, AfterAStopSignalADiskThatWorksAgainIsEnough) {
  CheckpointSaver saver = make(host_, /*background=*/true, /*retries=*/10, /*retry_seconds=*/60);
  failing_writes = 1;
  std::raise(SIGTERM);
  saver.finish();
  EXPECT_EQ(saver.failed_saves(), 1);
  watch_stop_signals();  // reading would stop as well
  EXPECT_TRUE(test::same_bits(saved(5), values()));
}

// The signal comes while the last save waits for its next try, a minute away.
TEST_F(Saver, AStopSignalEndsTheWaitForTheNextTry) {
  CheckpointSaver saver = make(host_, /*background=*/true, /*retries=*/10, /*retry_seconds=*/60);
  failing_writes = 1;
  std::thread signals([&] {
    while (failing_writes > 0) pause_shortly();
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    kill(getpid(), SIGTERM);
  });
  const double begin = now();
  saver.finish();
  signals.join();
  EXPECT_LT(now() - begin, 10);
  watch_stop_signals();
  EXPECT_TRUE(test::same_bits(saved(5), values()));
}

TEST_F(Saver, WritesNothingWhereACheckpointDoesNotFit) {
  CheckpointSaver saver = make(host_, /*background=*/true, /*retries=*/0);
  const std::uint64_t needed = disk_bytes(sample_.data(5));
  free_bytes_left = needed - 1;
  EXPECT_EQ(test::error_of([&] { saver.finish(); }),
            "exit 6: saving has failed 1 time in a row, --save-retries is 0: " +
                (run_ / "checkpoints: a checkpoint takes ") + std::to_string(needed) + " bytes, " +
                std::to_string(needed - 1) + " are free");
  free_bytes_left = needed;
  make(host_).finish();
  EXPECT_TRUE(test::same_bits(saved(5), values()));
}

// What could not be saved is not begun; of what leaves little room there is a word.
TEST_F(Saver, ARunLooksForRoomBeforeItStarts) {
  const test::SmallRuns runs(std::string(2000, 'x').append(1, 'y'));
  ASSERT_EQ(runs.train("room", {"--steps=2"}), 0);
  const std::string log = runs.file("room", "log.txt");
  EXPECT_EQ(log.find("bytes are free"), log.npos) << log;
  const auto each = runs.file("room", "checkpoints/step-00000002/model.safetensors").size() * 3;
  free_bytes_left = each / 2;
  const std::string error = test::error_of([&] { runs.train("none"); });
  EXPECT_TRUE(error.starts_with("exit 6: --out " + runs.path("none") + ": a checkpoint takes "))
      << error;
  EXPECT_NE(error.find(fmt::format("bytes, {} are free", each / 2)), error.npos) << error;
  EXPECT_FALSE(fs::exists(runs.path("none")));
  free_bytes_left = 2 * each;
  ASSERT_EQ(runs.train("little", {"--checkpoint-every=1"}), 0);
  const std::string little = runs.file("little", "log.txt");
  EXPECT_NE(little.find(fmt::format("{} bytes are free", 2 * each)), little.npos) << little;
}

TEST_F(Saver, SavesAStateOnce) {
  CheckpointSaver saver = make(host_);
  saver.finish();
  failing_writes = 1000;
  saver.save();
  saver.finish();
  EXPECT_EQ(saver.failed_saves(), 0);
}

}  // namespace
}  // namespace lathe
