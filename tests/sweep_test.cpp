// lathe sweep: a whole grid is run, whatever happens to one of its runs or to the sweep, and goes
// on to the same bits.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <functional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "lathe/folder_lock.h"
#include "support/json.h"
#include "support/process.h"
#include "support/temp_dir.h"
#include "sweep/child_log.h"
#include "sweep/scheduler.h"

namespace lathe::test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// Runs that take a moment each.
constexpr const char* kSmall =
    "layers = 1\nheads = 2\nchannels = 16\ncontext = 16\nmicro-batch = 4\nval-every = 2\n"
    "val-tokens = 64\ndevice = \"cpu\"\ntrain = \"text.txt\"\nsample-every = 0\n";

std::size_t count(const std::string& text, const std::string& what) {
  std::size_t found = 0;
  for (std::size_t at = 0; (at = text.find(what, at)) != text.npos; ++at) ++found;
  return found;
}

// The lines that begin with `what`.
std::size_t lines(const std::string& text, const std::string& what) {
  return count("\n" + text, "\n" + what);
}

class Sweep : public testing::Test {
 protected:
  Sweep() {
    std::string text;
    for (int i = 0; i < 400; ++i) text += fmt::format("line {} of the text\n", i * i);
    dir_.write("text.txt", text);
  }

  void write_grid(const std::string& more, const std::string& top = "steps = 4\n") const {
    dir_.write("grid.toml", kSmall + top + more);
  }
  ProcessResult sweep(const std::string& words = "") const {
    return run_process({.arguments = lathe_arguments("sweep grid.toml --out runs " + words),
                        .folder = dir_.path()});
  }
  json record(const std::string& folder = "runs") const {
    return parse_json(read_file(dir_ / (folder + "/sweep.json")));
  }
  json run(const std::string& name) const {
    const json all = record();
    for (const json& run : all.at("runs")) {
      if (run.at("name") == name) return run;
    }
    return {};
  }
  std::string bytes(const std::string& file) const { return read_file(dir_ / file); }

  // Starts a sweep, does something once a run is at its step `step`, and returns how it ended.
  ProcessResult sweep_until(const std::string& name, std::int64_t step,
                            const std::function<void(pid_t)>& act,
                            const std::string& words = "") const {
    ProcessResult result{};
    std::thread sweeps([&] { result = sweep(words); });
    const std::string metrics = dir_ / fmt::format("runs/{}/metrics.jsonl", name);
    const auto has_come_there = [&] {
      return fs::exists(metrics) &&
             count(read_file(metrics), "\n") > static_cast<std::size_t>(step);
    };
    const bool is_there = wait_for(has_come_there);
    if (is_there) act(record().at("pid").get<pid_t>());
    sweeps.join();
    EXPECT_TRUE(is_there) << result.out << result.err;
    return result;
  }

  // Whether it came to be so in time.
  static bool wait_for(const std::function<bool()>& condition) {
    constexpr std::chrono::seconds kMost{60};
    const auto end = std::chrono::steady_clock::now() + kMost;
    while (!condition()) {
      if (std::chrono::steady_clock::now() > end) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return true;
  }

  TempDir dir_;
};

TEST_F(Sweep, RunsTheWholeGridAndThenNothingMore) {
  write_grid("[grid]\nlr = [1e-4, 1e-2]\nseed = [1, 2]\n");
  const ProcessResult first = sweep("--jobs 2");
  ASSERT_EQ(first.exit_code, 0) << first.out << first.err;
  EXPECT_TRUE(first.out.starts_with("sweep runs: 4 runs, 4 to do, 2 at a time\n")) << first.out;
  EXPECT_EQ(lines(first.out, "start "), 4u);
  EXPECT_EQ(lines(first.out, "end "), 4u);
  EXPECT_EQ(count(first.out, "\n\n"), 0u);
  EXPECT_NE(first.out.find("; 4 of 4 done, 0 running, 0 waiting\n"), std::string::npos);
  // The best at the top of the table.
  const std::string table = first.out.substr(first.out.find("\nname ") + 1);
  EXPECT_EQ(count(table, "\n"), 5u) << table;
  EXPECT_LT(table.find("\nlr0.01-seed"), table.find("\nlr0.0001-seed")) << table;

  const json sweep_json = record();
  EXPECT_EQ(sweep_json.at("format"), "lathe sweep");
  EXPECT_EQ(sweep_json.at("status"), "finished");
  EXPECT_EQ(sweep_json.at("exit_code"), 0);
  EXPECT_EQ(sweep_json.at("jobs"), 2);
  ASSERT_EQ(sweep_json.at("runs").size(), 4u);
  const json& last = sweep_json.at("runs").back();
  EXPECT_EQ(last.at("name"), "lr0.01-seed2");
  EXPECT_EQ(last.at("options"), parse_json(R"({"lr":0.01,"seed":2})"));
  EXPECT_EQ(last.at("status"), "finished");
  EXPECT_EQ(last.at("step"), 4);
  EXPECT_EQ(last.at("attempts"), 1);
  const json result = parse_json(bytes("runs/lr0.01-seed2/result.json"));
  EXPECT_EQ(last.at("best_val_loss"), result.at("best_val_loss"));
  EXPECT_NE(bytes("runs/lr0.01-seed2.log").find("lathe train --out=runs/lr0.01-seed2"),
            std::string::npos);

  const std::string before = bytes("runs/lr0.01-seed1/result.json");
  const ProcessResult second = sweep("--json");
  EXPECT_EQ(second.exit_code, 0);
  EXPECT_EQ(lines(second.err, "start "), 0u) << second.err;
  EXPECT_EQ(parse_json(second.out), record());
  EXPECT_EQ(bytes("runs/lr0.01-seed1/result.json"), before);
}

TEST_F(Sweep, OfADryRunNothingIsWritten) {
  write_grid("[grid]\nseed = [1, 2]\n");
  const ProcessResult dry = sweep("--dry-run");
  EXPECT_EQ(dry.exit_code, 0) << dry.err;
  EXPECT_EQ(dry.out,
            "sweep runs: 2 runs, 2 to do, 1 at a time\n"
            "start   seed1  waiting   runs/seed1  --seed 1\n"
            "start   seed2  waiting   runs/seed2  --seed 2\n");
  EXPECT_FALSE(fs::exists(dir_ / "runs"));
  EXPECT_EQ(parse_json(sweep("--dry-run --json").out).at("runs").size(), 2u);
}

TEST_F(Sweep, ThreadsAreSharedUnlessTheyAreGiven) {
  write_grid("[grid]\nseed = [1]\n[[run]]\nname = \"own\"\nthreads = 3\n");
  ASSERT_EQ(sweep("--jobs 2").exit_code, 0);
  const std::string log = bytes("runs/seed1.log");
  EXPECT_EQ(count(log, "--threads="), 1u) << log;
  EXPECT_EQ(count(bytes("runs/own.log"), "--threads="), 1u);
  EXPECT_NE(bytes("runs/own.log").find("--threads=3\n"), std::string::npos);
}

TEST_F(Sweep, AFailedRunStopsNoOther) {
  write_grid("[[run]]\nname = \"bad\"\ntrain = \"missing.txt\"\n[[run]]\nname = \"good\"\n");
  const ProcessResult first = sweep();
  EXPECT_EQ(first.exit_code, 3) << first.out;
  EXPECT_EQ(run("bad").at("status"), "failed");
  EXPECT_EQ(run("bad").at("exit_code"), 3);
  EXPECT_NE(run("bad").at("error").get<std::string>().find("missing.txt"), std::string::npos);
  EXPECT_EQ(run("good").at("status"), "finished");
  EXPECT_EQ(record().at("status"), "failed");
  EXPECT_NE(first.out.find("\nend bad: failed, exit code 3, --train 'missing.txt': no file "),
            std::string::npos)
      << first.out;

  const ProcessResult retried = sweep("--retries 2");
  EXPECT_EQ(retried.exit_code, 3);
  EXPECT_EQ(run("bad").at("attempts"), 3);
  EXPECT_EQ(lines(retried.out, "start bad: "), 3u) << retried.out;
  EXPECT_EQ(lines(retried.out, "start good: "), 0u);

  dir_.write("missing.txt", bytes("text.txt"));
  EXPECT_EQ(sweep().exit_code, 0);
  EXPECT_EQ(run("bad").at("status"), "finished");
}

// It would again: neither --retries nor another sweep takes it up.
TEST_F(Sweep, ADivergedRunIsAResult) {
  write_grid("[grid]\nlr = [1e30, 1e-3]\n", "steps = 8\non-nonfinite = \"stop\"\n");
  EXPECT_EQ(sweep("--retries 3").exit_code, 7);
  EXPECT_EQ(run("lr1e+30").at("attempts"), 1);
  EXPECT_EQ(run("lr0.001").at("status"), "finished");
  const ProcessResult second = sweep();
  EXPECT_EQ(second.exit_code, 7);
  EXPECT_EQ(lines(second.out, "start "), 0u) << second.out;
  EXPECT_EQ(run("lr1e+30").at("status"), "failed");
}

TEST_F(Sweep, AKilledRunIsTriedAgain) {
  write_grid("[grid]\nseed = [1, 2]\n", "steps = 300\ncheckpoint-every = 10\n");
  const auto kill_run = [&](pid_t) {
    kill(parse_json(bytes("runs/seed1/result.json")).at("pid").get<pid_t>(), SIGKILL);
  };
  const ProcessResult ended = sweep_until("seed1", 20, kill_run, "--retries 1");
  EXPECT_EQ(ended.exit_code, 0) << ended.out;
  EXPECT_EQ(lines(ended.out, "end seed1: killed, exit code 137"), 1u) << ended.out;
  EXPECT_EQ(run("seed1").at("attempts"), 2);
  EXPECT_EQ(run("seed1").at("exit_code"), 0);
}

constexpr const char* kLong = "steps = 400\ncheckpoint-every = 10\n";
constexpr const char* kTwoSeeds = "[grid]\nseed = [1, 2]\n";

// Nothing of it is left running, and the next one makes what an unbroken one has.
TEST_F(Sweep, AKilledSweepLeavesNoProcessAndLosesNothing) {
  write_grid(kTwoSeeds, kLong);
  ASSERT_EQ(run_process({.arguments = lathe_arguments("sweep grid.toml --out whole --jobs 2"),
                         .folder = dir_.path()})
                .exit_code,
            0);
  const auto kill_sweep = [](pid_t pid) { kill(pid, SIGKILL); };
  EXPECT_EQ(sweep_until("seed2", 30, kill_sweep, "--jobs 2").exit_code, 128 + SIGKILL);
  EXPECT_TRUE(wait_for([&] {
    return !FolderLock::is_held(dir_ / "runs/seed1") && !FolderLock::is_held(dir_ / "runs/seed2");
  }));
  EXPECT_EQ(run("seed1").at("status"), "running");  // it was killed before it could say more
  EXPECT_EQ(parse_json(bytes("runs/seed2/result.json")).at("status"), "stopped");

  const ProcessResult second = sweep("--jobs 2");
  ASSERT_EQ(second.exit_code, 0) << second.out << second.err;
  for (const char* name : {"seed1", "seed2"}) {
    for (const char* file : {"model.safetensors", "optimizer.safetensors"}) {
      const std::string path = fmt::format("{}/checkpoints/step-00000400/{}", name, file);
      EXPECT_EQ(bytes("runs/" + path), bytes("whole/" + path)) << path;
    }
  }
}

TEST_F(Sweep, ASignalSavesEveryRun) {
  write_grid("[grid]\nseed = [1, 2, 3]\n", "steps = 100000\n");
  const auto stop = [](pid_t pid) { kill(pid, SIGTERM); };
  const ProcessResult stopped = sweep_until("seed2", 5, stop, "--jobs 2");
  EXPECT_EQ(stopped.exit_code, 128 + SIGTERM) << stopped.out;
  EXPECT_EQ(lines(stopped.out, "stopped by signal 15: 2 runs are to save and end\n"), 1u)
      << stopped.out;
  EXPECT_EQ(record().at("status"), "stopped");
  EXPECT_EQ(record().at("exit_code"), 143);
  for (const char* name : {"seed1", "seed2"}) {
    EXPECT_EQ(run(name).at("status"), "stopped");
    EXPECT_EQ(run(name).at("exit_code"), 143);
    EXPECT_FALSE(run(name).at("checkpoint").is_null());
    EXPECT_FALSE(FolderLock::is_held(dir_ / fmt::format("runs/{}", name)));
  }
  EXPECT_EQ(run("seed3").at("status"), "waiting");
  EXPECT_FALSE(fs::exists(dir_ / "runs/seed3"));
}

TEST_F(Sweep, ASecondSignalEndsAllAtOnce) {
  write_grid(kTwoSeeds, "steps = 100000\n");
  // A stopped process cannot save: what the sweep waits for does not come.
  const auto stop_twice = [&](pid_t pid) {
    const auto child = parse_json(bytes("runs/seed1/result.json")).at("pid").get<pid_t>();
    kill(child, SIGSTOP);
    kill(pid, SIGINT);
    usleep(700'000);
    kill(pid, SIGINT);
    usleep(100'000);
    kill(child, SIGCONT);
  };
  EXPECT_EQ(sweep_until("seed1", 5, stop_twice).exit_code, 128 + SIGINT);
  EXPECT_TRUE(wait_for([&] { return !FolderLock::is_held(dir_ / "runs/seed1"); }));
}

TEST_F(Sweep, TheEndOfItsTimeSavesEveryRun) {
  write_grid(kTwoSeeds, "steps = 100000\n");
  EXPECT_EQ(sweep("--max-time 1.5s").exit_code, 124);
  EXPECT_EQ(run("seed1").at("status"), "stopped");
  EXPECT_EQ(run("seed2").at("status"), "waiting");
  EXPECT_EQ(record().at("exit_code"), 124);
}

TEST_F(Sweep, OneAtATimeInAFolder) {
  write_grid(kTwoSeeds);
  fs::create_directory(dir_ / "runs");
  const FolderLock lock(dir_ / "runs");
  const ProcessResult refused = sweep();
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_TRUE(refused.err.starts_with("lathe: --out runs: another process is writing there"))
      << refused.err;
  EXPECT_FALSE(fs::exists(dir_ / "runs/seed1"));
}

TEST_F(Sweep, RunsOnSeveralGpusTakeTurns) {
  write_grid(kTwoSeeds, "gpus = 2\nsteps = 4\n");
  const ProcessResult refused = sweep("--dry-run --jobs 2");
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_EQ(refused.err, "lathe: --jobs 2: runs with gpus would share them; must be 1\n");
  const ProcessResult shown = sweep("--dry-run --jobs 1 --json");
  EXPECT_EQ(parse_json(shown.out).at("jobs"), 1) << shown.err;
}

TEST_F(Sweep, AFolderOfAnotherKindIsRefused) {
  write_grid(kTwoSeeds);
  dir_.write("runs/config.toml", "");
  const ProcessResult refused = sweep();
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_TRUE(refused.err.starts_with("lathe: --out runs: is a run ")) << refused.err;
}

TEST_F(Sweep, AChangedGridKeepsWhatWasAndAddsWhatIsNew) {
  write_grid("[grid]\nseed = [1, 2]\n");
  ASSERT_EQ(sweep("--jobs 2").exit_code, 0);
  write_grid("[grid]\nseed = [2, 3]\n");
  const ProcessResult changed = sweep();
  EXPECT_EQ(changed.exit_code, 0);
  EXPECT_EQ(lines(changed.out, "start seed3: 2 of 2"), 1u) << changed.out;
  EXPECT_EQ(lines(changed.out, "start "), 1u);
  EXPECT_EQ(lines(changed.out, "kept seed1: "), 1u);
  EXPECT_EQ(record().at("others"), json::array({"seed1"}));
  EXPECT_TRUE(fs::exists(dir_ / "runs/seed1/result.json"));
  // Still known after yet another sweep.
  ASSERT_EQ(sweep().exit_code, 0);
  EXPECT_EQ(record().at("others"), json::array({"seed1"}));
}

TEST_F(Sweep, ALongerLengthGoesOnWithFinishedRuns) {
  write_grid("[grid]\nseed = [1]\n", "steps = 4\n");
  ASSERT_EQ(sweep().exit_code, 0);
  write_grid("[grid]\nseed = [1]\n", "steps = 6\n");
  const ProcessResult longer = sweep();
  EXPECT_EQ(longer.exit_code, 0);
  EXPECT_EQ(run("seed1").at("step"), 6);
  // And a fixed option is refused before anything starts.
  write_grid("[grid]\nseed = [1, 2]\n", "steps = 6\nlr = 0.5\n");
  const ProcessResult refused = sweep();
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_NE(refused.err.find("grid.toml: run 1 (seed 1): lr 0.5: the run in runs/seed1 has "),
            std::string::npos)
      << refused.err;
  EXPECT_FALSE(fs::exists(dir_ / "runs/seed2"));
}

TEST_F(Sweep, TakesOneGridFile) {
  const auto err = [&](const std::string& words) {
    return run_process({.arguments = lathe_arguments(words), .folder = dir_.path()}).err;
  };
  write_grid(kTwoSeeds);
  EXPECT_EQ(err("sweep"), "lathe: sweep: needs a GRID.toml; see lathe sweep --help\n");
  EXPECT_EQ(err("sweep none.toml"), "lathe: none.toml: no such file\n");
  EXPECT_EQ(err("sweep grid.toml grid.toml"),
            "lathe: sweep: takes one GRID.toml, not 2; see lathe sweep --help\n");
}

// A stand-in for the program: it says which GPU it was given, and stays until two of them are
// there, so that two slots are in use.
TEST_F(Sweep, EveryRunHasTheGpuOfItsSlot) {
  const std::string program = dir_.write("program", R"sh(#!/bin/sh
echo "gpu $CUDA_VISIBLE_DEVICES secret $LATHE_NAME"
touch "$2"
while [ "$(ls there | wc -l)" -lt 2 ]; do sleep 0.02; done
exit 5
)sh");
  fs::permissions(program, fs::perms::owner_all);
  fs::create_directory(dir_ / "there");
  std::vector<SweepRun> runs(3);
  SweepRecord sweep;
  for (int i = 0; i < 3; ++i) {
    runs[i].name = fmt::format("run{}", i);
    runs[i].folder = dir_ / runs[i].name;
    runs[i].arguments = {"train", fmt::format("there/{}", i)};
  }
  for (const SweepRun& run : runs) sweep.runs.push_back(look_at(run));
  std::vector<std::string> said;
  int changes = 0;
  const fs::path before = fs::current_path();
  fs::current_path(dir_.path());
  setenv("LATHE_NAME", "x", 1);
  Scheduler(sweep, {.program = program,
                    .jobs = 2,
                    .retries = 1,
                    .gpus = {"4", "GPU-7"},
                    .hidden_variables = {"LATHE_NAME"},
                    .changed = [&] { ++changes; },
                    .say = [&](const std::string& line) { said.push_back(line); }})
      .run();
  unsetenv("LATHE_NAME");
  fs::current_path(before);
  std::multiset<std::string> gpus;
  for (const SweepRun& run : runs) {
    const std::string log = read_file(log_of(run));
    EXPECT_EQ(count(log, "\ngpu "), 2u) << log;  // it has failed, and was tried once more
    EXPECT_EQ(count(log, " secret \n"), 2u) << log;
    for (const char* gpu : {"4", "GPU-7"}) {
      EXPECT_EQ(count(log, fmt::format("CUDA_VISIBLE_DEVICES={} lathe train", gpu)),
                count(log, fmt::format("\ngpu {} ", gpu)));
      if (count(log, fmt::format("\ngpu {} ", gpu)) > 0) gpus.insert(gpu);
    }
  }
  EXPECT_TRUE(gpus.contains("4") && gpus.contains("GPU-7"));
  EXPECT_EQ(said.size(), 12u);
  EXPECT_EQ(changes, 12);
  for (const RunRecord& record : sweep.runs) {
    EXPECT_EQ(record.status, "failed");
    EXPECT_EQ(record.exit_code, 5);
    EXPECT_EQ(record.attempts, 2);
  }
}

TEST(ChildLog, ShellWordsComeBack) {
  EXPECT_EQ(shell_word("--lr=1e-3"), "--lr=1e-3");
  EXPECT_EQ(shell_word("a b"), "'a b'");
  EXPECT_EQ(shell_word("it's"), "'it'\\''s'");
  EXPECT_EQ(shell_word(""), "''");
}

TEST(ChildLog, TheLastErrorIsThatOfTheLastProcess) {
  const TempDir dir;
  const std::string log = dir.write("log", "lathe: first\nlathe: second\nmore\n");
  EXPECT_EQ(last_error(log, 0), "second");
  EXPECT_EQ(last_error(log, 13), "second");
  EXPECT_EQ(last_error(log, 27), "");
  EXPECT_EQ(last_error(dir / "none", 0), "");
}

}  // namespace
}  // namespace lathe::test
