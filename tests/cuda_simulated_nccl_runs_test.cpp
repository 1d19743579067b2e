// lathe train on several GPUs, those of the PTX machine: --gpus in one process, and a process for
// each GPU as torchrun and mpirun start them.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <future>
#include <map>
#include <string>
#include <vector>

#include "ranks/sockets.h"
#include "support/json.h"
#include "support/process.h"
#include "support/run_output.h"
#include "support/temp_dir.h"

namespace lathe::test {
namespace {

using nlohmann::json;
using Variables = std::map<std::string, std::string>;

constexpr const char* kRun =
    "train --layers 1 --heads 2 --channels 16 --context 16 --micro-batch 1 --batch-tokens 192 "
    "--steps 6 --lr 1e-2 --warmup-steps 0 --val-every 0 --val-tokens 64 --threads 1 --gemm-tuning "
    "off --quiet ";

class Gpus : public testing::Test {
 protected:
  ProcessResult run(const std::string& words, Variables environment = {},
                    std::vector<std::string> before = {}) const {
    for (const std::string& word : lathe_arguments(words)) before.push_back(word);
    environment.emplace("LATHE_PTX_DEVICES", "4");
    environment["OMPI_ALLOW_RUN_AS_ROOT"] = environment["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] = "1";
    environment["OMPI_MCA_btl_vader_single_copy_mechanism"] = "none";  // a right, in containers
    return run_process({.arguments = before, .folder = dir_.path(), .environment = environment});
  }

  static std::string free_port() { return std::to_string(Listener(0).port()); }

  // A process for each rank, with torchrun's variables.
  std::vector<ProcessResult> torchrun(int ranks, const std::string& words,
                                      const std::vector<std::string>& before = {}) const {
    const std::string port = free_port();
    std::vector<std::future<ProcessResult>> processes;
    for (int rank = 0; rank < ranks; ++rank) {
      const Variables variables = {
          {"RANK", std::to_string(rank)},       {"WORLD_SIZE", std::to_string(ranks)},
          {"LOCAL_RANK", std::to_string(rank)}, {"LOCAL_WORLD_SIZE", std::to_string(ranks)},
          {"MASTER_ADDR", "127.0.0.1"},         {"MASTER_PORT", port}};
      processes.push_back(std::async(std::launch::async, [this, words, variables, before] {
        return run(words, variables, before);
      }));
    }
    std::vector<ProcessResult> results;
    for (auto& process : processes) results.push_back(process.get());
    return results;
  }

  std::vector<double> losses(const std::string& name) const {
    std::vector<double> values = values_of(dir_.path() / name, "train/loss");
    for (const double value : values_of(dir_.path() / name, "val/loss")) values.push_back(value);
    return values;
  }
  void expect_close(const std::string& name, const std::string& expected) const {
    const std::vector<double> found = losses(name), right = losses(expected);
    ASSERT_EQ(found.size(), right.size()) << name;
    for (std::size_t i = 0; i < found.size(); ++i) {
      EXPECT_LE(std::abs(found[i] - right[i]), 1e-5 * right[i]) << name << ", loss " << i;
    }
  }
  json result(const std::string& name) const { return result_of(dir_.path() / name); }
  std::string tensors(const std::string& name, int step) const {
    return tensors_of(dir_.path() / name, step);
  }

  TempDir dir_;
};

TEST_F(Gpus, OneThroughNcclIsOneAloneBitForBit) {
  for (const std::string precision : {"fp32", "bf16"}) {
    const std::string words = fmt::format("{}--device cuda --precision {} --out ", kRun, precision);
    ASSERT_EQ(run(words + "alone" + precision).exit_code, 0);
    const ProcessResult process = run(words + "one" + precision + " --gpus 1");
    ASSERT_EQ(process.exit_code, 0) << process.err;
    EXPECT_EQ(losses("one" + precision), losses("alone" + precision));
    EXPECT_TRUE(tensors("one" + precision, 6) == tensors("alone" + precision, 6)) << precision;
  }
}

TEST_F(Gpus, HaveTheLossesOfOne) {
  const std::string words = std::string(kRun) + "--device cuda --precision fp32 --out ";
  ASSERT_EQ(run(words + "alone").exit_code, 0);
  ASSERT_EQ(losses("alone").size(), 7u);
  EXPECT_LT(losses("alone")[5], losses("alone")[0]) << "it learns nothing";
  for (const std::string gpus : {"2", "3", "all"}) {
    const ProcessResult process = run(fmt::format("{}gpus{} --gpus {}", words, gpus, gpus));
    ASSERT_EQ(process.exit_code, 0) << process.err;
    EXPECT_EQ(process.err, "");
    expect_close("gpus" + gpus, "alone");
  }
  for (const ProcessResult& process : torchrun(2, words + "torchrun")) {
    EXPECT_EQ(process.exit_code, 0) << process.err;
  }
  EXPECT_TRUE(tensors("torchrun", 6) == tensors("gpus2", 6));
}

// As on two machines: each process has GPUs that the other one does not see.
TEST_F(Gpus, MayBeThoseOfSeveralProcesses) {
  const std::string words = std::string(kRun) + "--device cuda --precision fp32 --out ";
  ASSERT_EQ(run(words + "gpus4 --gpus 4").exit_code, 0);
  const std::string port = free_port();
  const auto machine = [&](const std::string& number, const std::string& gpus) {
    return run(words + "both --gpus 2", {{"RANK", number},
                                         {"WORLD_SIZE", "2"},
                                         {"LOCAL_RANK", "0"},
                                         {"MASTER_ADDR", "127.0.0.1"},
                                         {"MASTER_PORT", port},
                                         {"CUDA_VISIBLE_DEVICES", gpus}});
  };
  auto other = std::async(std::launch::async, [&] { return machine("1", "2,3"); });
  const ProcessResult first = machine("0", "0,1");
  EXPECT_EQ(first.exit_code, 0) << first.err;
  EXPECT_EQ(other.get().exit_code, 0);
  EXPECT_TRUE(tensors("both", 6) == tensors("gpus4", 6));
}

TEST_F(Gpus, GoOnWithAnotherNumberAndOnTheCpu) {
  const std::string words = std::string(kRun) + "--precision fp32 --device ";
  ASSERT_EQ(run(words + "cuda --out alone").exit_code, 0);
  ASSERT_EQ(run(words + "cuda --gpus 2 --stop-at-step 2 --out mixed").exit_code, 0);
  ASSERT_EQ(run("train --resume mixed --gpus 3 --stop-at-step 4 --quiet").exit_code, 0);
  const ProcessResult on_cpu = run("train --resume mixed --device cpu --threads 1 --quiet");
  ASSERT_EQ(on_cpu.exit_code, 0) << on_cpu.err;
  expect_close("mixed", "alone");
}

// Both are in a loop of steps when the second one gets the signal.
std::vector<std::string> signal_to_rank_1(const std::string& signal) {
  return {"/usr/bin/env", "bash", "-c",
          R"("$@" & pid=$!; if [ "$RANK" = 1 ]; then )"
          R"(while ! grep -q '"step":3,' run/metrics.jsonl 2>/dev/null; do sleep 0.05; done; )"
          "kill -" +
              signal + R"( $pid; sleep ${AFTER:-0}; kill -9 $pid 2>/dev/null; fi; wait $pid)",
          "bash"};
}

TEST_F(Gpus, AProcessThatIsKilledIsNamedByTheOthers) {
  const std::vector<ProcessResult> ends =
      torchrun(2, std::string(kRun) + "--device cuda --steps 100000 --checkpoint-every 0 --out run",
               signal_to_rank_1("KILL"));
  EXPECT_EQ(ends[0].exit_code, 8);
  EXPECT_TRUE(ends[0].err.starts_with("lathe: rank 1 on ")) << ends[0].err;
  EXPECT_NE(ends[0].err.find("is gone: its process has ended"), std::string::npos) << ends[0].err;
  EXPECT_EQ(result("run").at("exit_code"), 8);
  EXPECT_EQ(result("run").at("status"), "failed");
}

TEST_F(Gpus, AProcessThatIsStoppedIsNamedByTheOthers) {
  setenv("AFTER", "9", 1);
  const std::vector<ProcessResult> ends =
      torchrun(2,
               std::string(kRun) +
                   "--device cuda --steps 100000 --checkpoint-every 0 --rank-timeout 5s --out run",
               signal_to_rank_1("STOP"));
  EXPECT_EQ(ends[0].exit_code, 8);
  EXPECT_TRUE(ends[0].err.starts_with("lathe: rank 1 on ")) << ends[0].err;
  EXPECT_EQ(result("run").at("exit_code"), 8);
}

TEST_F(Gpus, ASignalStopsAllRanksAfterTheSameStep) {
  const std::string script =
      R"("$@" & pid=$!; while ! grep -q '"step":3,' run/metrics.jsonl 2>/dev/null; do sleep 0.05; )"
      R"(done; kill -TERM $pid; wait $pid; wait $pid)";
  const ProcessResult process =
      run(std::string(kRun) + "--device cuda --gpus 3 --steps 100000 --out run", {},
          {"/usr/bin/env", "bash", "-c", script, "bash"});
  EXPECT_EQ(process.exit_code, 143) << process.err;
  EXPECT_EQ(result("run").at("status"), "stopped");
  EXPECT_FALSE(tensors("run", result("run").at("step").get<int>()).empty());
}

TEST_F(Gpus, RanksOfMpirunTrainOnThem) {
  if (std::system("mpirun --version >/dev/null 2>&1") != 0) {
    GTEST_SKIP() << "no mpirun here (openmpi-bin): ranks by MPI are not tested";
  }
  const std::string words = std::string(kRun) + "--device cuda --precision fp32 --out ";
  const auto mpirun = [](int ranks) -> std::vector<std::string> {
    return {"/usr/bin/env", "mpirun", "--oversubscribe",    "--bind-to",
            "none",         "-n",     std::to_string(ranks)};
  };
  ASSERT_EQ(run(words + "gpus2 --gpus 2").exit_code, 0);
  const ProcessResult process = run(words + "mpi", {}, mpirun(2));
  ASSERT_EQ(process.exit_code, 0) << process.err;
  EXPECT_TRUE(tensors("mpi", 6) == tensors("gpus2", 6));

  const ProcessResult too_many = run(words + "none", {{"LATHE_PTX_DEVICES", "2"}}, mpirun(3));
  EXPECT_NE(too_many.exit_code, 0);
  const std::string line = "OMPI_COMM_WORLD_SIZE is 3: 3 processes on this machine, and 2 GPUs";
  const std::size_t first = too_many.err.find(line);
  EXPECT_NE(first, std::string::npos) << too_many.err;
  EXPECT_EQ(too_many.err.find(line, first + 1), std::string::npos) << too_many.err;
  const ProcessResult both = run(words + "none --gpus 2", {}, mpirun(2));
  EXPECT_NE(both.err.find("--gpus 2: OMPI_COMM_WORLD_SIZE is 2, and each process"),
            std::string::npos)
      << both.err;
  EXPECT_FALSE(std::filesystem::exists(dir_.path() / "none"));
}

TEST_F(Gpus, MoreProcessesThanGpusAreRefused) {
  const std::string words = std::string(kRun) + "--out run";
  const Variables variables = {{"RANK", "0"},        {"WORLD_SIZE", "8"},
                               {"LOCAL_RANK", "0"},  {"LOCAL_WORLD_SIZE", "8"},
                               {"MASTER_PORT", "1"}, {"MASTER_ADDR", "localhost"}};
  const ProcessResult process = run(words, variables);
  EXPECT_EQ(process.exit_code, 2);
  EXPECT_NE(process.err.find("WORLD_SIZE is 8: 8 processes on this machine, and 4 GPUs"),
            std::string::npos)
      << process.err;
  EXPECT_EQ(run(words + " --gpus 5").exit_code, 2);
  EXPECT_FALSE(std::filesystem::exists(dir_.path() / "run"));
}

}  // namespace
}  // namespace lathe::test
