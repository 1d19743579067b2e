#include "lathe/checkpoint.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <random>
#include <set>
#include <thread>

#include "lathe/files.h"
#include "run/retention.h"
#include "support/compare.h"
#include "support/error_of.h"
#include "support/file_size_limit.h"
#include "support/host_backend.h"
#include "support/json.h"
#include "support/sample_checkpoint.h"
#include "support/temp_dir.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using test::contents;
using test::error_of;
using test::SampleCheckpoint;
using test::TempDir;

constexpr const char* kFiles[] = {"model.safetensors", "optimizer.safetensors", "state.json"};

std::set<std::string> names_in(const fs::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) {
    names.insert(entry.path().filename().string());
  }
  return names;
}

// Saves a checkpoint of that step with values made from the step, and returns its folder.
fs::path save(const TempDir& run, std::int64_t step, DType precision = DType::fp32) {
  test::HostBackend backend;
  SampleCheckpoint sample(precision, static_cast<std::uint32_t>(step));
  save_checkpoint(run.path(), backend, sample.data(step));
  char name[32];
  std::snprintf(name, sizeof name, "step-%08d", static_cast<int>(step));
  return run.path() / "checkpoints" / name;
}

// A state.json with its checksum made right again after `change`.
void rewrite_state(const fs::path& folder,
                   const std::function<void(nlohmann::ordered_json&)>& change) {
  auto state = nlohmann::ordered_json::parse(test::read_file(folder / "state.json"));
  state.erase("checksum");
  change(state);
  std::string text = state.dump(2);
  text.resize(text.size() - 2);  // "\n}"
  Checksum checksum;
  checksum.update(std::as_bytes(std::span(text)));
  char last[64];
  std::snprintf(last, sizeof last, ",\n  \"checksum\": \"%016llx\"\n}\n",
                static_cast<unsigned long long>(checksum.value()));
  write_file_atomically(folder / "state.json", text + last);
}

std::string opening_error(const fs::path& path) {
  return error_of([&] { open_checkpoint(path); });
}

// Of a child process: ends only by a signal, or with status 1.
[[noreturn]] void save_for_ever(const TempDir& run, std::int64_t step) {
  try {
    for (;; ++step) {
      save(run, step);
      prune_checkpoints(run.path(), {.keep = 2});
    }
  } catch (...) {
    ::_exit(1);
  }
}

class EachPrecision : public testing::TestWithParam<DType> {};
INSTANTIATE_TEST_SUITE_P(Checkpoint, EachPrecision, testing::Values(DType::fp32, DType::bf16),
                         [](const auto& test) {
                           return test.param == DType::fp32 ? "fp32" : "bf16";
                         });

TEST_P(EachPrecision, ComesBackBitForBit) {
  const TempDir run;
  const fs::path folder = save(run, 7, GetParam());
  EXPECT_EQ(names_in(folder), std::set<std::string>(std::begin(kFiles), std::end(kFiles)));
  EXPECT_EQ(names_in(run / "checkpoints"), std::set<std::string>{"step-00000007"});

  SampleCheckpoint saved(GetParam(), 7), loaded(GetParam(), 99);
  const CheckpointInfo info = open_checkpoint(folder);
  EXPECT_EQ(info.folder, folder);
  EXPECT_EQ(info.config, SampleCheckpoint::config());
  EXPECT_EQ(info.precision, GetParam() == DType::fp32 ? "fp32" : "bf16");
  EXPECT_EQ(info.tokenizer, "bytes");
  EXPECT_EQ(info.state, saved.data(7).state);

  test::HostBackend backend;
  const auto optimizer_before = contents(loaded.optimizer());
  load_checkpoint(info, backend, loaded.model(), {});
  EXPECT_TRUE(test::same_bits(contents(loaded.model()), contents(saved.model())));
  EXPECT_TRUE(test::same_bits(contents(loaded.optimizer()), optimizer_before));
  load_checkpoint(info, backend, loaded.model(), loaded.optimizer());
  EXPECT_TRUE(test::same_bits(contents(loaded.optimizer()), contents(saved.optimizer())));
}

TEST(Checkpoint, KeepsEveryStateExactly) {
  const TempDir run;
  test::HostBackend backend;
  SampleCheckpoint sample(DType::fp32, 1);
  CheckpointData data = sample.data(123'456'789);  // nine digits
  data.state = {.step = 123'456'789,
                .epoch = ~std::uint64_t{0},
                .sequence = 0,
                .tokens = std::numeric_limits<std::int64_t>::max(),
                .wall_seconds = 1e300 / 3,
                .best_val_loss = std::nullopt,
                .best_val_step = 0};
  data.tokenizer = "a \"name\"\n\xc3\xa9";
  data.plans = "{\"gpu\": \"some\"}\n";
  save_checkpoint(run.path(), backend, data);
  const CheckpointInfo info = open_checkpoint(run.path());
  EXPECT_EQ(info.state, data.state);
  EXPECT_EQ(info.tokenizer, data.tokenizer);
  EXPECT_EQ(info.plans, data.plans);
}

TEST(Checkpoint, EqualRunsLeaveEqualFiles) {
  const TempDir one, other;
  const fs::path a = save(one, 5), b = save(other, 5);
  for (const char* name : kFiles) EXPECT_EQ(test::read_file(a / name), test::read_file(b / name));
}

TEST(Checkpoint, TheModelFileExplainsItself) {
  const TempDir run;
  const SafetensorsReader reader(save(run, 5) / "model.safetensors", ExitCode::data);
  const std::map<std::string, std::string> expected = {
      {"format", "lathe"}, {"precision", "fp32"}, {"tokenizer", "bytes"}, {"layers", "1"},
      {"heads", "1"},      {"channels", "2"},     {"context", "3"},       {"vocab", "5"}};
  EXPECT_EQ(reader.metadata(), expected);
  EXPECT_EQ(reader.find("token_embedding.weight")->shape, (std::vector<std::int64_t>{5, 2}));
}

TEST(Checkpoint, ASecondSaveOfAStepReplacesTheFirst) {
  const TempDir run;
  save(run, 5);
  test::HostBackend backend;
  SampleCheckpoint other(DType::fp32, 77), loaded(DType::fp32, 0);
  save_checkpoint(run.path(), backend, other.data(5));
  load_checkpoint(open_checkpoint(run.path()), backend, loaded.model(), loaded.optimizer());
  EXPECT_TRUE(test::same_bits(contents(loaded.model()), contents(other.model())));
  EXPECT_EQ(names_in(run / "checkpoints"), std::set<std::string>{"step-00000005"});
}

TEST(Checkpoint, LoadsAcrossPrecisions) {
  const TempDir run;
  save(run, 5, DType::bf16);
  test::HostBackend backend;
  SampleCheckpoint saved(DType::bf16, 5), loaded(DType::fp32, 0);
  load_checkpoint(open_checkpoint(run.path()), backend, loaded.model(), {});
  const auto narrow = contents(saved.model()), wide = contents(loaded.model());
  ASSERT_EQ(wide.size(), 2 * narrow.size());
  for (std::size_t i = 0; i < narrow.size() / 2; ++i) {  // bfloat16 is the upper half of a float
    ASSERT_EQ(wide[4 * i], std::byte{0});
    ASSERT_EQ(wide[4 * i + 2], narrow[2 * i]);
    ASSERT_EQ(wide[4 * i + 3], narrow[2 * i + 1]);
  }
}

TEST(Checkpoint, LeftoversOfAKilledRunAreNeverSeenAndGoWithTheNextSave) {
  const TempDir run;
  const fs::path whole = save(run, 5);
  for (const char* name : {".partial-step-00000006", ".removed-step-00000004"}) {
    fs::copy(whole, run.path() / "checkpoints" / name);
  }
  fs::remove(run / "checkpoints/.partial-step-00000006/state.json");
  run.write("checkpoints/.partial-step-00000006/rest.tmp", "of the killed run");
  run.write("checkpoints/notes.txt", "mine");
  std::vector<std::string> problems;
  EXPECT_EQ(newest_checkpoint(run.path(), &problems)->state.step, 5);
  EXPECT_EQ(problems, std::vector<std::string>{});
  EXPECT_EQ(list_checkpoints(run.path()), std::vector<fs::path>{whole});
  const fs::path next = save(run, 6);
  EXPECT_EQ(names_in(next), std::set<std::string>(std::begin(kFiles), std::end(kFiles)));
  EXPECT_EQ(names_in(run / "checkpoints"),
            (std::set<std::string>{"step-00000005", "step-00000006", "notes.txt"}));
}

// Whether a checkpoint of `step` or later stands in the run before a generous time is over.
bool appears(const fs::path& run, int step) {
  const auto last = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  const fs::path first = run / fmt::format("checkpoints/step-{:08}", step);
  while (std::chrono::steady_clock::now() < last) {
    const std::vector<fs::path> paths = list_checkpoints(run);
    if (!paths.empty() && paths.back() >= first) return true;
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  return false;
}

// Every other child is killed early, in its first save perhaps; the others somewhere in a later
// one.
TEST(Checkpoint, IsWholeOrAbsentWheneverTheProcessIsKilled) {
  const TempDir run;
  for (int round = 0; round < 25; ++round) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) save_for_ever(run, round * 1000 + 1);
    const bool saved = round % 2 == 0 || appears(run.path(), round * 1000 + 1);
    std::this_thread::sleep_for(std::chrono::microseconds(2000 + 1700 * round));
    ASSERT_EQ(::kill(child, SIGKILL), 0);
    int status = 0;
    ::waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status));
    ASSERT_TRUE(saved) << "a child saved nothing in half a minute";
    for (const fs::path& path : list_checkpoints(run.path())) {
      ASSERT_EQ(opening_error(path), "");
    }
  }
}

TEST(Checkpoint, AFullDiskLeavesEarlierCheckpointsAndNoRest) {
  const TempDir run;
  const fs::path earlier = save(run, 5);
  const std::uint64_t largest = fs::file_size(earlier / "optimizer.safetensors");
  for (std::uint64_t bytes = 0; bytes < largest; bytes += 97) {
    const std::string error = [&] {
      const test::FileSizeLimit limit(bytes);
      return error_of([&] { save(run, 6); });
    }();
    EXPECT_TRUE(error.starts_with("exit 6: " + (run / "checkpoints/.partial-step-00000006/")))
        << error;
    EXPECT_TRUE(error.ends_with("cannot write: File too large")) << error;
    ASSERT_EQ(names_in(run / "checkpoints"), std::set<std::string>{"step-00000005"});
  }
  EXPECT_EQ(opening_error(earlier), "");
}

TEST(Checkpoint, NamesARunFolderThatCannotBeWritten) {
  const TempDir folder;
  const std::string file = folder.write("run", "a file");
  test::HostBackend backend;
  SampleCheckpoint sample(DType::fp32, 1);
  EXPECT_EQ(error_of([&] { save_checkpoint(file, backend, sample.data(1)); }),
            "exit 6: " + file + "/checkpoints: cannot create: Not a directory");
}

TEST(PruneCheckpoints, KeepsTheHighestSteps) {
  const TempDir run;
  for (const int step : {9, 100, 20, 100'000'000}) save(run, step);
  run.write("checkpoints/step-1/mine", "");  // not a name of ours
  prune_checkpoints(run.path(), {.keep = 0});
  EXPECT_EQ(list_checkpoints(run.path()).size(), 4u);
  prune_checkpoints(run.path(), {.keep = 4});
  EXPECT_EQ(list_checkpoints(run.path()).size(), 4u);
  prune_checkpoints(run.path(), {.keep = 2});
  EXPECT_EQ(names_in(run / "checkpoints"),
            (std::set<std::string>{"step-00000100", "step-100000000", "step-1"}));
  EXPECT_EQ(open_checkpoint(run.path()).state.step, 100'000'000);
  prune_checkpoints(run / "none", {.keep = 2});  // no run, nothing to do
}

struct RetentionCase {
  std::vector<std::int64_t> whole, damaged;
  Retention retention;
  std::vector<std::int64_t> removed;
};

TEST(PruneCheckpoints, LeavesWhatIsToStay) {
  const std::vector<std::int64_t> tens = {10, 20, 30, 40, 50};
  const std::vector<RetentionCase> cases = {
      {tens, {}, {.keep = 0, .keep_every = 20, .best_step = 10}, {}},
      {tens, {}, {.keep = 5}, {}},
      {tens, {}, {.keep = 9}, {}},
      {tens, {}, {.keep = 2}, {10, 20, 30}},
      {tens, {}, {.keep = 2, .keep_every = 20}, {10, 30}},
      {tens, {}, {.keep = 1, .keep_every = 20, .best_step = 10}, {30}},
      {tens, {}, {.keep = 2, .best_step = 50}, {10, 20, 30}},
      {tens, {}, {.keep = 2, .best_step = 25}, {10, 20, 30}},
      {{}, {}, {.keep = 1}, {}},
      // A damaged one is no reason for a whole one to go, and goes when its time has come.
      {{10, 20, 30}, {40, 50}, {.keep = 2}, {10}},
      {{10, 20}, {30, 40}, {.keep = 3}, {}},
      {{30, 40, 50}, {10, 20}, {.keep = 2}, {10, 20, 30}},
      {{10, 30, 50}, {20, 40}, {.keep = 2, .keep_every = 20}, {10}},
      {{}, {10, 20}, {.keep = 1}, {}},
  };
  for (const auto& [whole, damaged, retention, removed] : cases) {
    SCOPED_TRACE(&whole - &cases.front().whole);
    std::vector<RetainedCheckpoint> all;
    for (const auto step : whole) all.push_back({.step = step, .is_whole = true});
    for (const auto step : damaged) all.push_back({.step = step, .is_whole = false});
    std::ranges::sort(all, {}, &RetainedCheckpoint::step);
    EXPECT_EQ(steps_to_remove(all, retention), removed);
  }
}

TEST(PruneCheckpoints, SeesThatACheckpointIsDamaged) {
  const TempDir run;
  for (const int step : {1, 2, 3, 4}) save(run, step);
  fs::resize_file(run / "checkpoints/step-00000003/model.safetensors", 100);
  fs::remove(run / "checkpoints/step-00000004/state.json");
  EXPECT_EQ(prune_checkpoints(run.path(), {.keep = 1}), std::vector<std::string>{});
  EXPECT_EQ(names_in(run / "checkpoints"),
            (std::set<std::string>{"step-00000002", "step-00000003", "step-00000004"}));
}

TEST(PointLatest, IsAHintThatNoReaderFollows) {
  const TempDir run;
  for (const int step : {1, 2}) {
    save(run, step);
    point_latest(run.path(), step);
  }
  EXPECT_EQ(fs::read_symlink(run / "checkpoints/latest"), "step-00000002");
  fs::remove_all(run / "checkpoints/step-00000002");
  EXPECT_EQ(open_checkpoint(run.path()).state.step, 1);
  fs::remove(run / "checkpoints/latest");
  run.write("checkpoints/latest/mine", "");
  point_latest(run.path(), 1);
  EXPECT_EQ(names_in(run / "checkpoints"), (std::set<std::string>{"step-00000001", "latest"}));
}

TEST(Checkpoint, HoldsTheOptionsOfItsRun) {
  const TempDir run;
  test::HostBackend backend;
  SampleCheckpoint sample(DType::fp32, 1);
  CheckpointData data = sample.data(5);
  data.state.validated_step = 4;
  data.options = "lr = 1\n";
  save_checkpoint(run.path(), backend, data);
  const fs::path folder = run / "checkpoints/step-00000005";
  EXPECT_EQ(open_checkpoint(run.path()).state, data.state);
  EXPECT_EQ(options_of_checkpoint(folder), folder / "config.toml");
  EXPECT_EQ(test::read_file(folder / "config.toml"), data.options);
  write_file_atomically(folder / "config.toml", "lr = 2\n");
  EXPECT_EQ(options_of_checkpoint(folder), std::nullopt);
  EXPECT_NE(opening_error(folder).find("config.toml: checksum"), std::string::npos);
  EXPECT_EQ(options_of_checkpoint(save(run, 6)), std::nullopt);
}

// As it is on the disk, to the byte: blocks of 4096, and some of them for state.json.
TEST(Checkpoint, SaysWhatItTakesOnTheDisk) {
  const TempDir run;
  SampleCheckpoint sample(DType::bf16, 5);
  const fs::path folder = save(run, 5, DType::bf16);
  std::uint64_t blocks = 4096;
  for (const char* name : kFiles) blocks += (fs::file_size(folder / name) + 4095) / 4096 * 4096;
  EXPECT_GE(disk_bytes(sample.data(5)), blocks);
  EXPECT_LE(disk_bytes(sample.data(5)), blocks + 2 * 4096);
}

TEST(SetAsideCheckpoints, TakesThoseOfLaterStepsAndKeepsEarlierOnesSetAside) {
  const TempDir run;
  for (int round = 0; round < 2; ++round) {
    for (const std::int64_t step : {4, 5, 6}) save(run, step);
    EXPECT_EQ(set_aside_checkpoints(run.path(), 5).size(), 1u);
  }
  EXPECT_EQ(names_in(run / "checkpoints"),
            (std::set<std::string>{"step-00000004", "step-00000005", "set-aside-0-step-00000006",
                                   "set-aside-1-step-00000006"}));
}

TEST(NewestCheckpoint, FallsBackAndSaysWhy) {
  const TempDir run;
  std::vector<std::string> problems;
  EXPECT_EQ(newest_checkpoint(run.path(), &problems), std::nullopt);
  EXPECT_EQ(problems, std::vector<std::string>{});
  EXPECT_EQ(opening_error(run.path()), "exit 4: " + run.path().string() +
                                           ": has no state.json, so it is no checkpoint folder");

  save(run, 1);
  const fs::path second = save(run, 2), third = save(run, 3), fourth = save(run, 4);
  fs::remove(fourth / "state.json");
  const std::string whole_bytes = std::to_string(fs::file_size(third / "model.safetensors"));
  fs::resize_file(third / "model.safetensors", 100);
  const std::string fourth_problem =
      fourth.string() + ": has no state.json, so it is no checkpoint folder";
  const std::string third_problem = (third / "model.safetensors").string() +
                                    ": 100 bytes, state.json says " + whole_bytes +
                                    ": truncated or replaced";
  EXPECT_EQ(newest_checkpoint(run.path(), &problems)->folder, second);
  EXPECT_EQ(problems, (std::vector<std::string>{fourth_problem, third_problem}));
  problems.clear();
  EXPECT_EQ(open_checkpoint(run.path(), &problems).folder, second);
  EXPECT_EQ(problems.size(), 2u);

  prune_checkpoints(run.path(), {.keep = 2});  // no whole one goes for a damaged one
  EXPECT_EQ(list_checkpoints(run.path()).size(), 4u);
  for (const fs::path& whole : {run.path() / "checkpoints/step-00000001", second}) {
    fs::remove_all(whole);
  }
  EXPECT_EQ(
      opening_error(run.path()),
      "exit 4: " + run.path().string() + ": no checkpoint is whole; the newest: " + fourth_problem);
}

TEST(OpenCheckpoint, NamesWhatIsNoCheckpoint) {
  const TempDir run;
  const std::string file = run.write("model.safetensors", "");
  EXPECT_EQ(opening_error(run / "none"),
            "exit 4: " + (run / "none") + ": no such checkpoint or run folder");
  EXPECT_EQ(opening_error(file),
            "exit 4: " + file + ": is a file, must be a checkpoint or run folder");
  fs::create_directory(run / "checkpoints");
  EXPECT_EQ(opening_error(run.path()),
            "exit 4: " + run.path().string() + ": has no checkpoint yet");
}

struct StateChange {
  std::function<void(nlohmann::ordered_json&)> change;
  std::string message;  // after the path of state.json
};

TEST(OpenCheckpoint, RefusesAStateThatCannotBe) {
  const TempDir run;
  const fs::path folder = save(run, 5);
  const std::string original = test::read_file(folder / "state.json");
  using State = nlohmann::ordered_json;
  const std::vector<StateChange> changes = {
      {[](State& s) { s["format"] = "other"; }, R"(format "other", must be "lathe checkpoint")"},
      {[](State& s) { s["version"] = 4; }, "format version 4, this Lathe reads versions 1 to 3"},
      {[](State& s) { s.erase("version"); }, R"(has no "version")"},
      {[](State& s) { s["model"] = 1; }, R"(has no "layers")"},
      {[](State& s) { s["model"]["heads"] = "1"; }, R"("heads" must be a whole number)"},
      {[](State& s) { s["model"]["heads"] = 0; },
       "model cannot be: heads 0: must be between 1 and 1024"},
      {[](State& s) { s["model"]["layers"] = 1e18; }, R"("layers" must be a whole number)"},
      {[](State& s) { s["model"]["layers"] = std::uint64_t{1} << 63; },
       R"("layers" is 9223372036854775808, must be below 2^63)"},
      {[](State& s) { s["model"]["layers"] = 1'000'000'000; },
       "model cannot be: layers 1000000000: must be between 1 and 1000"},
      {[](State& s) { s["precision"] = "fp16"; }, R"(precision "fp16", must be fp32 or bf16)"},
      {[](State& s) { s["tokenizer"] = 7; }, R"("tokenizer" must be a string)"},
      {[](State& s) { s["state"]["step"] = -1; }, R"("step" must be a whole number)"},
      {[](State& s) { s["state"]["wall_seconds"] = nullptr; },
       R"("wall_seconds" must be a number)"},
      {[](State& s) { s["state"].erase("epoch"); }, R"(has no "epoch")"},
      {[](State& s) { s["files"]["model.safetensors"]["xxh3"] = "0123456789ABCDEF"; },
       R"("xxh3" is "0123456789ABCDEF", must be 16 hexadecimal digits)"},
      {[](State& s) { s["files"]["model.safetensors"]["xxh3"] = ""; },
       R"("xxh3" is "", must be 16 hexadecimal digits)"},
      {[](State& s) { s["files"].erase("model.safetensors"); }, R"(has no "model.safetensors")"},
  };
  for (const StateChange& change : changes) {
    write_file_atomically(folder / "state.json", original);
    rewrite_state(folder, change.change);
    EXPECT_EQ(opening_error(folder),
              "exit 4: " + (folder / "state.json").string() + ": " + change.message);
  }
  write_file_atomically(folder / "state.json", "[]\n");
  EXPECT_EQ(opening_error(folder),
            "exit 4: " + (folder / "state.json").string() + R"(: has no "format")");
  fs::resize_file(folder / "state.json", 20'000'000);
  EXPECT_EQ(opening_error(folder), "exit 4: " + (folder / "state.json").string() +
                                       ": 20000000 bytes, a checkpoint's has some hundred");
}

TEST(OpenCheckpoint, RefusesAnEditedStateOrAFolderOfAnotherStep) {
  const TempDir run;
  const fs::path folder = save(run, 5);
  std::string text = test::read_file(folder / "state.json");
  const std::size_t at = text.find("\"tokens\": 5000");
  ASSERT_NE(at, text.npos);
  write_file_atomically(folder / "state.json", text.replace(at, 14, "\"tokens\": 6000"));
  EXPECT_EQ(opening_error(folder),
            "exit 4: " + (folder / "state.json").string() +
                ": damaged or edited: its checksum is not that of its lines");
  save(run, 5);
  fs::rename(folder, run / "checkpoints/step-00000006");
  EXPECT_EQ(opening_error(run / "checkpoints/step-00000006"),
            "exit 4: " + (run / "checkpoints/step-00000006") +
                ": state.json is of step 5, its folder should be step-00000005");
  fs::rename(run / "checkpoints/step-00000006", run / "best");  // any other name is the user's
  EXPECT_EQ(opening_error(run / "best"), "");
}

// Files that are sound in themselves but not what state.json describes.
TEST(OpenCheckpoint, RefusesTensorsOfAnotherModel) {
  const TempDir run;
  test::HostBackend backend;
  SampleCheckpoint sample(DType::fp32, 1);
  const fs::path folder = run / "checkpoints/step-00000005";
  const auto error_with = [&](const std::function<void(CheckpointData&)>& change) {
    CheckpointData data = sample.data(5);
    change(data);
    save_checkpoint(run.path(), backend, data);
    return opening_error(folder);
  };
  const std::string model = "exit 4: " + (folder / "model.safetensors").string();
  const std::string optimizer = "exit 4: " + (folder / "optimizer.safetensors").string();
  EXPECT_EQ(error_with([](auto&) {}), "");
  EXPECT_EQ(error_with([](auto& data) { data.model.pop_back(); }),
            model + R"(: has no tensor "final_ln.bias")");
  EXPECT_EQ(error_with([](auto& data) { data.model.back().name = "bias"; }),
            model + R"(: has no tensor "final_ln.bias")");
  EXPECT_EQ(error_with([](auto& data) {
              data.model.push_back(data.model.back());
              data.model.back().name = "bias";
            }),
            model + R"(: tensor "bias" belongs to no part of the model)");
  EXPECT_EQ(
      error_with([](auto& data) { data.config.context = 4; }),
      model +
          R"(: tensor "position_embedding.weight" is F32 (3, 2), state.json makes it F32 (4, 2))");
  EXPECT_EQ(
      error_with([](auto& data) { data.precision = "bf16"; }),
      model +
          R"(: tensor "token_embedding.weight" is F32 (5, 2), state.json makes it BF16 (5, 2))");
  EXPECT_EQ(error_with([](auto& data) { data.optimizer.erase(data.optimizer.begin()); }),
            optimizer + R"(: has no tensor "m.token_embedding.weight")");
}

TEST(LoadCheckpoint, NamesTensorsThatAreMissingOrLeftOver) {
  const TempDir run;
  const fs::path folder = save(run, 5);
  const CheckpointInfo info = open_checkpoint(folder);
  test::HostBackend backend;
  SampleCheckpoint sample(DType::fp32, 1);
  auto model = sample.model();
  model.pop_back();
  EXPECT_EQ(error_of([&] { load_checkpoint(info, backend, model, {}); }),
            "exit 4: " + (folder / "model.safetensors").string() +
                R"(: tensor "final_ln.bias" belongs to no part of the model)");
  model = sample.model();
  model[3].name = "other";
  EXPECT_EQ(error_of([&] { load_checkpoint(info, backend, model, {}); }),
            "exit 4: " + (folder / "model.safetensors").string() + R"(: has no tensor "other")");
}

// Damage in any place must be found, in one line that names the file, and without harm.
class Damage : public testing::Test {
 protected:
  Damage() : folder_(save(run_, 5, DType::bf16)) {}

  void expect_found(const char* file, std::size_t at) const {
    const std::string error = opening_error(folder_);
    EXPECT_TRUE(error.starts_with("exit 4: " + (folder_ / file).string() + ": "))
        << file << " at " << at << ": " << error;
  }

  TempDir run_;
  fs::path folder_;
};

TEST_F(Damage, EveryTruncationIsFound) {
  for (const char* file : kFiles) {
    const std::string whole = test::read_file(folder_ / file);
    for (std::size_t length = whole.size(); length-- > 0;) {
      fs::resize_file(folder_ / file, length);
      expect_found(file, length);
    }
    write_file_atomically(folder_ / file, whole + '\0');  // and so is one byte too many
    expect_found(file, whole.size() + 1);
    write_file_atomically(folder_ / file, whole);
  }
  EXPECT_EQ(opening_error(folder_), "");
}

TEST_F(Damage, EveryFlippedBitIsFound) {
  for (const char* file : kFiles) {
    const std::string whole = test::read_file(folder_ / file);
    std::fstream stream(folder_ / file, std::ios::in | std::ios::out | std::ios::binary);
    const auto put = [&](std::size_t at, char byte) {
      stream.seekp(static_cast<std::streamoff>(at)).put(byte).flush();
    };
    for (std::size_t at = 0; at < whole.size(); ++at) {
      for (int bit = 0; bit < 8; ++bit) {
        put(at, static_cast<char>(whole[at] ^ 1 << bit));
        expect_found(file, at);
      }
      put(at, whole[at]);
    }
  }
  EXPECT_EQ(opening_error(folder_), "");
}

}  // namespace
}  // namespace lathe
