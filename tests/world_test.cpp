// Which process of how many this is, from the variables of launchers; each way in which they do not
// fit together is refused in one line.
#include "ranks/world.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "support/error_of.h"

namespace lathe::test {
namespace {

Environment torchrun() {
  return {{"RANK", "5"},
          {"WORLD_SIZE", "8"},
          {"LOCAL_RANK", "1"},
          {"MASTER_PORT", "29500"},
          {"MASTER_ADDR", "node1"},
          {"LOCAL_WORLD_SIZE", "4"}};
}

Environment mpirun() {
  return {{"OMPI_COMM_WORLD_RANK", "3"},
          {"OMPI_COMM_WORLD_SIZE", "4"},
          {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
          {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}};
}

Environment srun() {
  return {{"SLURM_STEP_ID", "0"},
          {"SLURM_PROCID", "2"},
          {"SLURM_STEP_NUM_TASKS", "6"},
          {"SLURM_NTASKS", "6"},
          {"SLURM_LOCALID", "0"}};
}

Environment with(Environment environment, const Environment& changes) {
  for (const auto& [name, value] : changes) environment[name] = value;
  return environment;
}

std::string refusal(const Environment& environment) {
  return error_of([&] { read_world(environment); });
}

void expect_world(const World& world, Launch launch, int rank, int size, int local_rank,
                  int local_size) {
  EXPECT_EQ(world.launch, launch);
  EXPECT_EQ(world.rank, rank);
  EXPECT_EQ(world.size, size);
  EXPECT_EQ(world.local_rank, local_rank);
  EXPECT_EQ(world.local_size, local_size);
}

TEST(World, IsOneProcessWithoutALauncher) {
  expect_world(read_world({}), Launch::alone, 0, 1, 0, 1);
  expect_world(read_world({{"MASTER_ADDR", "node1"}, {"MASTER_PORT", "x"}}), Launch::alone, 0, 1, 0,
               1);
  expect_world(read_world({{"WORLD_SIZE", "1"}}), Launch::alone, 0, 1, 0, 1);
  // Within a batch script, without srun.
  expect_world(read_world({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "4"}, {"SLURM_LOCALID", "0"}}),
               Launch::alone, 0, 1, 0, 1);
}

TEST(World, IsWhatTheLauncherSays) {
  const World world = read_world(torchrun());
  expect_world(world, Launch::tcp, 5, 8, 1, 4);
  EXPECT_EQ(world.host, "node1");
  EXPECT_EQ(world.port, 29500);
  EXPECT_EQ(world.told_by, "WORLD_SIZE");
  EXPECT_EQ(world.run, " at port 29500");
  EXPECT_EQ(read_world(with(torchrun(), {{"TORCHELASTIC_RUN_ID", "job7"}})).run,
            "job7 at port 29500");
  expect_world(read_world(mpirun()), Launch::mpi, 3, 4, 1, 2);
  expect_world(read_world(srun()), Launch::mpi, 2, 6, 0, 0);
  EXPECT_EQ(read_world(srun()).told_by, "SLURM_STEP_NUM_TASKS");
}

TEST(World, OfOneRankNeedsNoMore) {
  expect_world(read_world({{"RANK", "0"}, {"WORLD_SIZE", "1"}}), Launch::tcp, 0, 1, 0, 1);
  expect_world(
      read_world({{"SLURM_STEP_ID", "7"}, {"SLURM_PROCID", "0"}, {"SLURM_STEP_NUM_TASKS", "1"}}),
      Launch::mpi, 0, 1, 0, 1);
}

// Each is started by the one before it.
TEST(World, TheInnermostLauncherCounts) {
  const Environment both = with(srun(), mpirun());
  expect_world(read_world(both), Launch::mpi, 3, 4, 1, 2);
  expect_world(read_world(with(both, torchrun())), Launch::tcp, 5, 8, 1, 4);
}

TEST(World, AnEmptyVariableIsNotSet) {
  expect_world(read_world(with(mpirun(), {{"RANK", ""}, {"WORLD_SIZE", ""}})), Launch::mpi, 3, 4, 1,
               2);
}

// torchrun can keep MASTER_PORT for itself, and says so.
TEST(World, LeavesTheLaunchersPortToTheLauncher) {
  const auto port = [](const char* master_port, const char* is_taken) {
    return read_world(with(torchrun(), {{"MASTER_PORT", master_port},
                                        {"TORCHELASTIC_USE_AGENT_STORE", is_taken}}))
        .port;
  };
  EXPECT_EQ(port("29500", "True"), 29501);
  EXPECT_EQ(port("29500", "False"), 29500);
  EXPECT_EQ(port("65535", "True"), 65534);
}

TEST(World, RefusesWhatIsMissing) {
  for (const char* name : {"WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"}) {
    Environment environment = torchrun();
    environment.erase(name);
    EXPECT_EQ(refusal(environment), std::string("exit 2: RANK is 5, but ") + name + " is not set");
  }
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"}) {
    Environment environment = mpirun();
    environment.erase(name);
    EXPECT_EQ(refusal(environment),
              std::string("exit 2: OMPI_COMM_WORLD_RANK is 3, but ") + name + " is not set");
  }
  for (const char* name : {"SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"}) {
    Environment environment = srun();
    environment.erase(name);
    EXPECT_EQ(refusal(environment),
              std::string("exit 2: SLURM_STEP_ID is 0, but ") + name + " is not set");
  }
  EXPECT_EQ(refusal({{"WORLD_SIZE", "4"}}), "exit 2: WORLD_SIZE is 4, but RANK is not set");
}

TEST(World, RefusesWhatIsNoNumber) {
  for (const char* value : {"x", "-1", "1.5", "1e1", "2K", " 1", "0x1", "99999999999999999999"}) {
    EXPECT_EQ(
        refusal(with(torchrun(), {{"RANK", value}})),
        std::string("exit 2: RANK is ") + value + ": must be a whole number from 0 to 1000000");
    EXPECT_EQ(refusal(with(mpirun(), {{"OMPI_COMM_WORLD_SIZE", value}})),
              std::string("exit 2: OMPI_COMM_WORLD_SIZE is ") + value +
                  ": must be a whole number from 1 to 1000000");
  }
  EXPECT_EQ(refusal(with(torchrun(), {{"WORLD_SIZE", "0"}})),
            "exit 2: WORLD_SIZE is 0: must be a whole number from 1 to 1000000");
  for (const char* port : {"0", "65536", "http"}) {
    EXPECT_EQ(
        refusal(with(torchrun(), {{"MASTER_PORT", port}})),
        std::string("exit 2: MASTER_PORT is ") + port + ": must be a whole number from 1 to 65535");
  }
}

TEST(World, RefusesWhatContradicts) {
  EXPECT_EQ(refusal(with(torchrun(), {{"RANK", "8"}})),
            "exit 2: RANK is 8, but WORLD_SIZE is 8: the last rank is 7");
  EXPECT_EQ(refusal(with(torchrun(), {{"LOCAL_RANK", "4"}})),
            "exit 2: LOCAL_RANK is 4, but LOCAL_WORLD_SIZE is 4: the last rank is 3");
  EXPECT_EQ(refusal(with(torchrun(), {{"LOCAL_WORLD_SIZE", "9"}})),
            "exit 2: LOCAL_WORLD_SIZE is 9: must be a whole number from 1 to 8");
  EXPECT_EQ(refusal(with(srun(), {{"SLURM_LOCALID", "6"}})),
            "exit 2: SLURM_LOCALID is 6, but SLURM_STEP_NUM_TASKS is 6: the last rank is 5");
  EXPECT_EQ(refusal(with(srun(), {{"WORLD_SIZE", "4"}})),
            "exit 2: WORLD_SIZE is 4, but SLURM_STEP_NUM_TASKS is 6");
}

TEST(World, ReadsTheVariablesOfTheProcess) {
  ASSERT_EQ(setenv("SLURM_PROCID", "17", 1), 0);
  ASSERT_EQ(setenv("MASTER_ADDR", "", 1), 0);
  const Environment environment = launcher_environment();
  EXPECT_EQ(environment.at("SLURM_PROCID"), "17");
  EXPECT_EQ(environment.at("MASTER_ADDR"), "");
  EXPECT_FALSE(environment.contains("PATH"));
  ASSERT_EQ(unsetenv("SLURM_PROCID"), 0);
  ASSERT_EQ(unsetenv("MASTER_ADDR"), 0);
}

}  // namespace
}  // namespace lathe::test
