// Ranks that are processes: the binary under mpirun, and under variables of launchers that it must
// refuse. What ranks compute is in ranks_test; what is here passes through MPI.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "lathe/files.h"
#include "support/json.h"
#include "support/process.h"
#include "support/run_output.h"
#include "support/temp_dir.h"

namespace lathe::test {
namespace {

using nlohmann::json;

constexpr const char* kRun =
    "train --device cpu --layers 1 --heads 2 --channels 16 --context 16 --micro-batch 1 "
    "--batch-tokens 384 --lr 3e-3 --val-every 0 --val-tokens 64 --threads 1 --quiet ";

class Launched : public testing::Test {
 protected:
  static bool has_mpirun() { return std::system("mpirun --version >/dev/null 2>&1") == 0; }

  ProcessResult run(const std::string& words, std::map<std::string, std::string> environment = {},
                    std::vector<std::string> before = {}) const {
    for (const std::string& word : lathe_arguments(words)) before.push_back(word);
    environment["OMPI_ALLOW_RUN_AS_ROOT"] = environment["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] = "1";
    environment["OMPI_MCA_btl_vader_single_copy_mechanism"] =
        "none";  // needs a right in containers
    return run_process({.arguments = before, .folder = dir_.path(), .environment = environment});
  }
  ProcessResult mpirun(int ranks, const std::string& words) const {
    return run(words, {},
               {"/usr/bin/env", "mpirun", "--oversubscribe", "--bind-to", "none", "-n",
                std::to_string(ranks)});
  }

  std::vector<double> losses(const std::string& name) const {
    return values_of(dir_.path() / name, "train/loss");
  }
  json result(const std::string& name) const { return result_of(dir_.path() / name); }
  std::string tensors(const std::string& name, int step) const {
    return tensors_of(dir_.path() / name, step);
  }

  TempDir dir_;
};

class Mpi : public Launched {
 protected:
  void SetUp() override {
    if (!has_mpirun()) GTEST_SKIP() << "no mpirun here (openmpi-bin): ranks by MPI are not tested";
  }
};

TEST_F(Mpi, RanksHaveTheLossesOfOneProcess) {
  const std::string words = std::string(kRun) + "--steps 50 --out ";
  ASSERT_EQ(run(words + "alone").exit_code, 0);
  const std::vector<double> expected = losses("alone");
  ASSERT_EQ(expected.size(), 50u);
  for (const int ranks : {1, 2, 3, 4, 8}) {
    const std::string name = fmt::format("ranks{}", ranks);
    const ProcessResult process = mpirun(ranks, words + name);
    ASSERT_EQ(process.exit_code, 0) << process.err;
    EXPECT_EQ(process.err, "");
    const std::vector<double> found = losses(name);
    ASSERT_EQ(found.size(), expected.size());
    for (std::size_t i = 0; i < found.size(); ++i) {
      EXPECT_LE(std::abs(found[i] - expected[i]), 1e-5 * expected[i]) << name << " step " << i + 1;
    }
  }
}

TEST_F(Mpi, RunsAreTheSameBitsAndGoOnWithAnotherNumberOfRanks) {
  const std::string words = std::string(kRun) + "--steps 8 --precision bf16 --out ";
  ASSERT_EQ(mpirun(3, words + "a").exit_code, 0);
  ASSERT_EQ(mpirun(3, words + "b --stop-at-step 3").exit_code, 0);
  ASSERT_EQ(mpirun(3, "train --resume b --threads 1 --quiet").exit_code, 0);
  EXPECT_EQ(tensors("a", 8), tensors("b", 8));
  EXPECT_EQ(run("verify a").exit_code, 0);
  ASSERT_EQ(mpirun(2, words + "c --stop-at-step 3").exit_code, 0);
  ASSERT_EQ(run("train --resume c --threads 1 --quiet").exit_code, 0);
  EXPECT_EQ(result("c").at("status"), "finished");
}

TEST_F(Mpi, OneFailureIsSaidOnce) {
  const ProcessResult process = mpirun(5, std::string(kRun) + "--steps 2 --out run");
  EXPECT_NE(process.exit_code, 0);
  const std::string line = "lathe: --batch-tokens 384: must be a multiple of 80";
  const std::size_t first = process.err.find(line);
  ASSERT_NE(first, std::string::npos) << process.err;
  EXPECT_EQ(process.err.find(line, first + 1), std::string::npos) << process.err;
}

// Every rank is asked to stop, as by a launcher's own signal, at the same step.
TEST_F(Mpi, ASignalToOneRankStopsAllAfterTheSameStep) {
  const std::string script =
      R"(if [ "$OMPI_COMM_WORLD_RANK" = 1 ]; then "$@" & pid=$!; )"
      R"(while ! grep -q '"step":3,' run/metrics.jsonl 2>/dev/null; do sleep 0.05; done; )"
      R"(kill -USR1 $pid; wait $pid; wait $pid; else exec "$@"; fi)";
  const ProcessResult process =
      run(std::string(kRun) + "--steps 1000000 --checkpoint-every 0 --out run", {},
          {"/usr/bin/env", "mpirun", "--oversubscribe", "--bind-to", "none", "-n", "3", "bash",
           "-c", script, "bash"});
  EXPECT_EQ(process.exit_code, 138) << process.err;
  EXPECT_EQ(result("run").at("status"), "stopped");
  const int step = result("run").at("step").get<int>();
  EXPECT_GE(step, 3);
  EXPECT_FALSE(tensors("run", step).empty());
}

// mpirun then ends it: it goes on only to be told what the others have seen.
TEST_F(Mpi, AStoppedRankIsNamed) {
  const std::string script =
      R"(if [ "$OMPI_COMM_WORLD_RANK" = 2 ]; then "$@" & pid=$!; )"
      R"(while ! grep -q '"step":3,' run/metrics.jsonl 2>/dev/null; do sleep 0.05; done; )"
      R"(kill -STOP $pid; wait $pid; else exec "$@"; fi)";
  const ProcessResult process = run(
      std::string(kRun) + "--steps 1000000 --checkpoint-every 0 --rank-timeout 5s --out run", {},
      {"/usr/bin/env", "mpirun", "--oversubscribe", "--bind-to", "none", "-n", "4", "bash", "-c",
       script, "bash"});
  EXPECT_NE(process.exit_code, 0);
  EXPECT_EQ(result("run").at("exit_code"), 8);
  EXPECT_TRUE(result("run").at("error").get<std::string>().starts_with("rank 2 on "))
      << result("run").at("error");
  EXPECT_FALSE(std::filesystem::exists(dir_.path() / "run/checkpoints"));
}

// mpirun as the loop finds it: this one, which kills a rank of the first run.
constexpr const char* kFatalMpirun = R"sh(#!/usr/bin/env bash
echo >>tries
PATH=${PATH#*:}
shift 3
if [[ $(wc -l <tries) -eq 1 ]]; then
  (while ! grep -q '"step":7,' runs/big/metrics.jsonl; do sleep 0.02; done 2>/dev/null
   kill -9 "$(cat victim)") &
fi
exec mpirun --oversubscribe --bind-to none -n 4 bash -c \
  '[[ $OMPI_COMM_WORLD_RANK == 1 ]] && echo $$ >victim; exec "$@"' bash "$LATHE" "$@"
)sh";

TEST_F(Mpi, TheLoopOfTheDocsGoesOnAfterADeath) {
  namespace fs = std::filesystem;
  const fs::path folder = dir_.path();
  const std::string docs = read_file(fs::path(LATHE_GOLDEN_DIR) / "../../docs/distributed.md");
  const std::size_t begin = docs.find("for try in ");
  ASSERT_NE(begin, std::string::npos);
  const std::string loop = docs.substr(begin, docs.find("```", begin) - begin);
  fs::create_directory(folder / "bin");
  write_file_atomically(folder / "bin/mpirun", kFatalMpirun);
  fs::permissions(folder / "bin/mpirun", fs::perms::owner_all);
  const std::string words = std::string(kRun) + "--steps 20 --checkpoint-every 5 ";
  ASSERT_EQ(mpirun(4, words + "--out unbroken").exit_code, 0);
  fs::create_directory(folder / "runs");
  fs::copy(folder / "unbroken/config.toml", folder / "big.toml");
  const ProcessResult process = run_process(
      {.arguments = {"/usr/bin/env", "bash", "-c", loop},
       .folder = folder,
       .environment = {{"OMPI_ALLOW_RUN_AS_ROOT", "1"},
                       {"OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"},
                       {"OMPI_MCA_btl_vader_single_copy_mechanism", "none"},
                       {"LATHE", lathe_binary()},
                       {"PATH", (folder / "bin").string() + ":" + std::getenv("PATH")}}});
  EXPECT_EQ(read_file(folder / "tries"), "\n\n") << process.err;
  EXPECT_NE(process.err.find("rank 1 on "), std::string::npos) << process.err;
  EXPECT_EQ(result("runs/big").at("status"), "finished");
  EXPECT_EQ(tensors("runs/big", 20), tensors("unbroken", 20));
}

TEST_F(Launched, ProcessesThatCannotJoinAreRefused) {
  const std::string words = std::string(kRun) + "--steps 1 --out run";
  const auto refused = [&](std::map<std::string, std::string> environment,
                           const std::string& says) {
    const ProcessResult process = run(words, std::move(environment));
    EXPECT_EQ(process.exit_code, 2);
    EXPECT_NE(process.err.find(says), std::string::npos) << process.err;
    EXPECT_FALSE(std::filesystem::exists(dir_.path() / "run"));
  };
  refused({{"WORLD_SIZE", "4"},
           {"RANK", "1"},
           {"LOCAL_RANK", "1"},
           {"MASTER_ADDR", "localhost"},
           {"MASTER_PORT", "4"}},
          "WORLD_SIZE is 4: this process was started as one of several by torchrun");
  if (has_mpirun())
    refused({{"SLURM_STEP_ID", "0"},
             {"SLURM_PROCID", "1"},
             {"SLURM_STEP_NUM_TASKS", "4"},
             {"SLURM_LOCALID", "1"}},
            "SLURM_STEP_NUM_TASKS is 4: MPI finds 1 rank here, not 4");
}

}  // namespace
}  // namespace lathe::test
