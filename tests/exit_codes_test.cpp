// Every exit code of the program, provoked from outside; that help and docs list the same ones; and
// what is left in result.json and env.json on the way.
#include "lathe/exit_codes.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <new>
#include <regex>
#include <set>
#include <string>
#include <system_error>
#include <vector>

#include "lathe/help.h"
#include "lathe/version.h"
#include "support/json.h"
#include "support/process.h"
#include "support/temp_dir.h"

namespace lathe::test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kTrain =
    "train --layers 1 --heads 2 --channels 16 --context 16 --micro-batch 2 --val-every 0 --quiet "
    "--threads 1 --out run ";
constexpr const char* kLong = "--steps 10000000 --checkpoint-every 0 ";

class ExitCodes : public testing::Test {
 protected:
  // `lathe WORDS` behind the words of another command, such as prlimit.
  ProcessResult run(const std::string& words, std::vector<std::string> before = {}) const {
    for (const std::string& word : lathe_arguments(words)) before.push_back(word);
    return run_process({.arguments = before,
                        .folder = dir_.path(),
                        .environment = {{"LATHE_LOG_EVERY", "7"}, {"OMP_NUM_THREADS", "1"}}});
  }
  json file(const std::string& name) const { return parse_json(read_file(dir_.path() / name)); }

  void expect_result(const char* status, int exit_code) const {
    const json result = file("run/result.json");
    EXPECT_EQ(result.at("status"), status);
    EXPECT_EQ(result.at("exit_code"), exit_code);
    EXPECT_EQ(result.at("error").is_null(), exit_code == 0 || exit_code > 100) << result;
  }

  TempDir dir_;
};

TEST_F(ExitCodes, ZeroFinished) {
  EXPECT_EQ(run(std::string(kTrain) + "--steps 2").exit_code, 0);
  expect_result("finished", 0);
}

TEST_F(ExitCodes, TwoOptions) {
  EXPECT_EQ(run("train --lr fast").exit_code, 2);
}

TEST_F(ExitCodes, ThreeData) {
  EXPECT_EQ(run("train --train none.txt").exit_code, 3);
}

TEST_F(ExitCodes, FourCheckpoints) {
  EXPECT_EQ(run("train --resume --out none").exit_code, 4);
}

// Of the address space that the program has, it needs more for the steps than for its start.
TEST_F(ExitCodes, FiveMemory) {
  const ProcessResult result = run(std::string(kTrain) + "--steps 2 --channels 4096 --layers 48",
                                   {"/usr/bin/prlimit", "--as=2000000000"});
  EXPECT_EQ(result.exit_code, 5) << result.err;
  EXPECT_EQ(std::ranges::count(result.err, '\n'), 1) << result.err;
}

// A file may have 100 kB: enough for what stands in the folder, not for a checkpoint.
TEST_F(ExitCodes, SixStorage) {
  const ProcessResult result =
      run(std::string(kTrain) + "--steps 2 --channels 64 --layers 2 --save-retries 0",
          {"/usr/bin/prlimit", "--fsize=100000"});
  EXPECT_EQ(result.exit_code, 6) << result.err;
  expect_result("failed", 6);
}

TEST_F(ExitCodes, SevenDiverged) {
  const ProcessResult result =
      run(std::string(kTrain) +
          "--steps 50 --lr 1e30 --warmup-steps 0 --grad-clip 0 --on-nonfinite stop");
  EXPECT_EQ(result.exit_code, 7) << result.err;
  expect_result("failed", 7);
}

TEST_F(ExitCodes, TimeLimit) {
  EXPECT_EQ(run(std::string(kTrain) + kLong + "--max-time 0.3").exit_code, 124);
  expect_result("stopped", 124);
}

TEST_F(ExitCodes, Signals) {
  for (const int signal : {SIGTERM, SIGINT, SIGUSR1, SIGUSR2, SIGHUP, SIGXCPU}) {
    const ProcessResult result = run(std::string(kTrain) + kLong + "--overwrite",
                                     {"/usr/bin/timeout", "--foreground", "--preserve-status", "-s",
                                      std::to_string(signal), "0.3"});
    EXPECT_EQ(result.exit_code, 128 + signal) << result.err;
    expect_result("stopped", 128 + signal);
    EXPECT_GT(file("run/result.json").at("step"), 0);
  }
}

// What a run says as long as it runs, or when nothing could say how it ended.
TEST_F(ExitCodes, AKilledRunLeavesThatItRuns) {
  const ProcessResult result =
      run(std::string(kTrain) + kLong, {"/usr/bin/timeout", "--foreground", "-s", "KILL", "0.4"});
  EXPECT_EQ(result.exit_code, 128 + SIGKILL);
  const json left = file("run/result.json");
  EXPECT_EQ(left.at("status"), "running");
  for (const char* key : {"exit_code", "error", "end_reason", "train_loss", "checkpoint"}) {
    EXPECT_TRUE(left.at(key).is_null()) << key;
  }
  EXPECT_EQ(left.at("steps"), 10'000'000);
  EXPECT_EQ(left.at("precision"), "fp32");
  EXPECT_GT(left.at("pid"), 1);
  EXPECT_EQ(left.at("hostname").get<std::string>().empty(), false);
  EXPECT_TRUE(std::regex_match(left.at("started").get<std::string>(),
                               std::regex(R"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)")));
  // The program xxhsum -H3 gives the same digits; they say which runs have equal options.
  EXPECT_TRUE(
      std::regex_match(left.at("config_hash").get<std::string>(), std::regex("[0-9a-f]{16}")));
}

TEST_F(ExitCodes, EverySessionWritesDownWhereItRan) {
  ASSERT_EQ(run(std::string(kTrain) + "--steps 3 --stop-at-step 1").exit_code, 0);
  EXPECT_EQ(file("run/env.json").at("session"), 1);
  const json before = file("run/result.json");
  ASSERT_EQ(run("train --resume --out run --quiet").exit_code, 0);
  const json session = file("run/env.json");
  EXPECT_EQ(session.at("session"), 2);
  EXPECT_EQ(session.at("command"),
            json({lathe_binary(), "train", "--resume", "--out", "run", "--quiet"}));
  EXPECT_EQ(fs::canonical(session.at("folder").get<std::string>()), fs::canonical(dir_.path()));
  EXPECT_EQ(session.at("environment").at("LATHE_LOG_EVERY"), "7");
  EXPECT_EQ(session.at("environment").at("OMP_NUM_THREADS"), "1");
  EXPECT_FALSE(session.at("environment").contains("PATH"));
  EXPECT_EQ(session.at("version"), version());
  EXPECT_EQ(session.at("started"), file("run/result.json").at("started"));
  EXPECT_EQ(session.at("memory_bytes"),
            std::int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGESIZE));
  EXPECT_EQ(before.at("config_hash"), file("run/result.json").at("config_hash"));
}

// A session that cannot read what the last one left begins to count again.
TEST_F(ExitCodes, ADamagedEnvJsonStopsNobody) {
  ASSERT_EQ(run(std::string(kTrain) + "--steps 9 --stop-at-step 1").exit_code, 0);
  int step = 2;
  for (const char* damaged : {"", "{", "[]", R"({"session":"x"})", R"({"session":-5})"}) {
    dir_.write("run/env.json", damaged);
    const std::string words =
        fmt::format("train --resume --out run --quiet --stop-at-step {}", step++);
    EXPECT_EQ(run(words).exit_code, 0) << damaged;
    EXPECT_EQ(file("run/env.json").at("session"), 1) << damaged;
  }
}

template <class Thrown>
Failure failure_of(const Thrown& thrown) {
  try {
    throw thrown;
  } catch (...) {
    return current_failure();
  }
}

ExitCode code_of(int reason) {
  return failure_of(std::system_error(reason, std::generic_category())).code;
}

// What no command line brings about.
TEST(CurrentFailure, EveryExceptionHasItsCode) {
  EXPECT_EQ(failure_of(Error(ExitCode::data, "x")).code, ExitCode::data);
  EXPECT_EQ(failure_of(Error(ExitCode::data, "x")).message, "x");
  EXPECT_EQ(failure_of(std::bad_alloc()).code, ExitCode::out_of_memory);
  EXPECT_EQ(failure_of(std::bad_array_new_length()).code, ExitCode::out_of_memory);
  EXPECT_EQ(code_of(ENOSPC), ExitCode::storage);
  EXPECT_EQ(code_of(EDQUOT), ExitCode::storage);
  EXPECT_EQ(code_of(EIO), ExitCode::storage);
  EXPECT_EQ(code_of(EAGAIN), ExitCode::internal);
  EXPECT_EQ(failure_of(fs::filesystem_error("f", std::make_error_code(std::errc::io_error))).code,
            ExitCode::storage);
  EXPECT_EQ(failure_of(std::logic_error("a defect")).code, ExitCode::internal);
  EXPECT_EQ(failure_of(std::logic_error("a defect")).message, "a defect");
  EXPECT_EQ(failure_of(7).code, ExitCode::internal);
}

std::set<std::string> codes() {
  std::set<std::string> codes;
  for (const auto& [code, meaning] : exit_code_table()) codes.insert(std::string(code));
  return codes;
}

TEST(ExitCodeTable, HelpListsIt) {
  const std::string help = main_help(), train = command_help(Command::train);
  for (const auto& [code, meaning] : exit_code_table()) {
    EXPECT_NE(help.find(fmt::format("  {:<7}{}\n", code, meaning)), std::string::npos) << code;
    EXPECT_NE(train.find(fmt::format("{} ", code)), std::string::npos) << code;
  }
  EXPECT_EQ(codes(),
            (std::set<std::string>{"0", "1", "2", "3", "4", "5", "6", "7", "8", "124", "128+N"}));
}

TEST(ExitCodeTable, DocsListIt) {
  const std::string docs = read_file(fs::path(LATHE_GOLDEN_DIR) / "../../docs/formats.md");
  const std::size_t begin = docs.find("\n## Exit codes\n");
  ASSERT_NE(begin, docs.npos);
  const std::string section = docs.substr(begin, docs.find("\n## ", begin + 1) - begin);
  for (const auto& [code, meaning] : exit_code_table()) {
    EXPECT_NE(section.find(fmt::format("\n| {} | {}", code, meaning)), section.npos) << code;
  }
  EXPECT_EQ(static_cast<std::size_t>(std::ranges::count(section, '\n')), codes().size() + 6);
}

}  // namespace
}  // namespace lathe::test
