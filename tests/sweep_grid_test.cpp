// Grid files: which runs they make, and that what is wrong with one is said before anything starts.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "lathe/error.h"
#include "support/error_of.h"
#include "support/json.h"
#include "support/temp_dir.h"
#include "sweep/gpu_slots.h"
#include "sweep/sweep_runs.h"

namespace lathe::test {
namespace {

namespace fs = std::filesystem;
using Args = std::vector<std::string>;

class Grid : public testing::Test {
 protected:
  std::vector<SweepRun> runs(const std::string& text, const Args& more = {},
                             const Environment& environment = {}) const {
    Args args = {file_.write("grid.toml", text)};
    args.insert(args.end(), more.begin(), more.end());
    const Options sweep = parse_options(Command::sweep, args, environment);
    return make_sweep_runs(read_grid_file(sweep.paths.front()), sweep, environment);
  }
  std::string names(const std::string& text, const Args& more = {}) const {
    std::string names;
    for (const SweepRun& run : runs(text, more)) names += run.name + " ";
    return names;
  }
  // What is said after the file's name.
  std::string refusal(const std::string& text, const Args& more = {}) const {
    const std::string said = error_of([&] { runs(text, more); });
    const std::string before = fmt::format("exit 2: {}: ", file_ / "grid.toml");
    return said.starts_with(before) ? said.substr(before.size()) : said;
  }
  std::string out() const { return file_ / "runs"; }

  TempDir file_;
};

bool has(const SweepRun& run, const std::string& argument) {
  return std::ranges::find(run.arguments, argument) != run.arguments.end();
}

TEST_F(Grid, TheLastOptionOfTheFileVariesFastest) {
  EXPECT_EQ(names("[grid]\nseed = [1, 2]\nlr = [1e-3, 3e-3]\n"),
            "seed1-lr0.001 seed1-lr0.003 seed2-lr0.001 seed2-lr0.003 ");
  EXPECT_EQ(names("grid = {lr = [1e-3], seed = [1, 2]}\n"), "lr0.001-seed1 lr0.001-seed2 ");
  EXPECT_EQ(
      names("[grid]\nbeta2 = [0.9]\nlr-schedule = [\"cosine\", \"wsd\"]\nshuffle = [false]\n"),
      "beta2_0.9-lr-schedulecosine-shufflefalse beta2_0.9-lr-schedulewsd-shufflefalse ");
}

TEST_F(Grid, RunsOfTheirOwnComeBehind) {
  const auto made = runs(
      "lr = 1.0\nmicro-batch = 2\n[grid]\nseed = [1]\n[[run]]\nlr = 0.5\n[[run]]\nname = "
      "\"base\"\n");
  ASSERT_EQ(made.size(), 3u);
  EXPECT_EQ(made[0].name, "seed1");
  EXPECT_EQ(made[0].options.lr, 1);
  EXPECT_EQ(made[1].name, "lr0.5");
  EXPECT_EQ(made[1].options.lr, 0.5);
  EXPECT_EQ(made[1].options.seed, default_options().seed);
  EXPECT_EQ(made[2].name, "base");
  for (const SweepRun& run : made) EXPECT_EQ(run.options.micro_batch, 2);
}

TEST_F(Grid, FoldersAndArgumentsAreThoseOfLatheTrain) {
  const std::string text =
      "name = \"s{seed}\"\nout = \"here\"\ntrain = [\"a b\", \"c\"]\n"
      "steps = 5\n[grid]\nseed = [1]\n";
  const SweepRun run = runs(text).front();
  EXPECT_EQ(run.folder, "here/s1");
  EXPECT_EQ(log_of(run), "here/s1.log");
  EXPECT_EQ(run.arguments, (Args{"train", "--out=here/s1", "--resume=auto", "--quiet",
                                 "--train=a b", "--train=c", "--steps=5", "--seed=1"}));
  EXPECT_EQ(runs(text, {"--out", "x", "--name", "{seed}"}).front().folder, "x/1");
  EXPECT_EQ(runs("[grid]\nseed = [1]\n").front().folder, "runs/grid/seed1");
  EXPECT_EQ(varied_text(run), "--seed 1");
  EXPECT_EQ(varied_values(run).dump(), R"({"seed":1})");
}

// What was checked is what is started.
TEST_F(Grid, TheCommandLineGivesTheSameOptions) {
  const std::string text =
      "steps = 7\nshuffle = false\nlr = 0.1\nstop-if = [\"val_loss>3@5\"]\n"
      "[grid]\ntrain = [\"-x=y\", [\"b c\", \"d\"]]\nepochs = [1, 2.5]\n";
  for (const SweepRun& run : runs(text, {"--out", out()}, {{"LATHE_LR", "0.3"}})) {
    const Options given =
        parse_options(Command::train, Args(run.arguments.begin() + 1, run.arguments.end()), {});
    EXPECT_EQ(to_toml(given), to_toml(run.options));
    EXPECT_EQ(given.out, run.folder);
    EXPECT_EQ(given.lr, 0.3);
    EXPECT_EQ(given.resume, "auto");
  }
}

// The grid beats the environment, which beats what stands above the tables.
TEST_F(Grid, TheEnvironmentIsBetweenTheTwo) {
  const SweepRun run = runs("lr = 0.5\nsteps = 7\nkeep = 5\n[grid]\nseed = [1]\n", {},
                            {{"LATHE_LR", "0.25"},
                             {"LATHE_SEED", "9"},
                             {"LATHE_TOKENS", "1K"},
                             {"LATHE_OUT", "other"},
                             {"LATHE_MAX_TIME", "1h"}})
                           .front();
  EXPECT_EQ(run.options.lr, 0.25);
  EXPECT_EQ(run.options.seed, 1u);
  EXPECT_EQ(run.options.steps, 0);
  EXPECT_EQ(run.options.tokens, 1000);
  EXPECT_EQ(run.options.keep, 5);
  EXPECT_EQ(run.folder, "other/seed1");
  EXPECT_TRUE(has(run, "--tokens=1K"));
  EXPECT_FALSE(has(run, "--steps=7"));
  EXPECT_FALSE(has(run, "--max-time=1h"));
}

TEST_F(Grid, ALengthOfARunReplacesThatOfAll) {
  const auto made = runs("steps = 7\n[grid]\ntokens = [\"1M\", 5000]\n[[run]]\nepochs = 1\n");
  ASSERT_EQ(made.size(), 3u);
  EXPECT_EQ(made[0].name, "tokens1000000");
  EXPECT_EQ(made[0].options.steps, 0);
  EXPECT_EQ(made[1].options.tokens, 5000);
  EXPECT_EQ(made[2].options.epochs, 1);
  EXPECT_EQ(made[2].options.tokens, 0);
}

TEST_F(Grid, AListsOptionHasAListForEachRun) {
  const auto made = runs("[grid]\ntrain = [\"a\", [\"b\", \"c\"]]\n");
  ASSERT_EQ(made.size(), 2u);
  EXPECT_EQ(made[0].options.train, Args{"a"});
  EXPECT_EQ(made[1].options.train, (Args{"b", "c"}));
  EXPECT_EQ(made[1].name, "trainb-c");
  EXPECT_EQ(varied_values(made[1]).dump(), R"({"train":["b","c"]})");
}

TEST_F(Grid, AConfigFileStandsBelowAll) {
  const std::string base = file_.write("base.toml", "lr = 0.5\nkeep = 9\n");
  const SweepRun run =
      runs(fmt::format("config = \"{}\"\nkeep = 8\n[grid]\nseed = [1]\n", base)).front();
  EXPECT_EQ(run.options.lr, 0.5);
  EXPECT_EQ(run.options.keep, 8);
}

struct BadGrid {
  const char *text, *message;
};

constexpr BadGrid kBadGrids[] = {
    {"[grid]\nlrr = [1]\n", "[grid] lrr: no such option; did you mean lr?"},
    {"lrr = 1\n[grid]\nlr = [1]\n", "lrr: no such option; did you mean lr?"},
    {"[gird]\nlr = [1]\n", "gird: no such option; did you mean grid?"},
    {"[grid]\nlr = 0.1\n",
     "[grid] lr: must be an array of the values to try, not a float; what is the same for all runs "
     "stands above the tables"},
    {"grid = [1]\n", "grid: must be a table of arrays, not an array"},
    {"[grid]\nlr = []\n", "[grid] lr: is empty; give the values to try"},
    {"[grid]\nlr = [1, true]\n", "[grid] lr: must be a number, not a boolean"},
    {"[grid]\nmodel = [\"tiny\", 1]\n", "[grid] model: must be a string, not an integer"},
    {"[grid]\nseed = [1]\nlr = [1, -1]\n",
     "run 2 (seed 1, lr -1): [grid] lr -1: must be a number above 0"},
    {"[grid]\nmodel = [\"gpt3\"]\n",
     "run 1 (model gpt3): [grid] model gpt3: must be one of tiny, gpt2, gpt2-medium, gpt2-large, "
     "gpt2-xl, d12, d24, d36, d48"},
    {"lr = 0\n[grid]\nseed = [1]\n", "run 1 (seed 1): lr 0: must be a number above 0"},
    {"[[run]]\nseed = 1\n[[run]]\nlr = 0\n",
     "run 2 (lr 0): [[run]] 2: lr 0: must be a number above 0"},
    {"batch-tokens = 100\n[grid]\nseq-len = [16]\n",
     "run 1 (seq-len 16): --batch-tokens 100: must be a multiple of 64, which is --micro-batch 4 x "
     "--seq-len 16; the nearest are 64 and 128"},
    {"steps = 1\ntokens = 2\n[grid]\nseed = [1]\n",
     "run 1 (seed 1): steps 1 and tokens 2: give one of --steps, --tokens, --epochs"},
    {"[grid]\nstop-if = [\"val_los>3\"]\n",
     "run 1 (stop-if val_los>3): --stop-if val_los>3: val_los is no metric, did you mean "
     "val_loss?; "
     "must be one of val_loss, train_loss, grad_norm, tokens_per_second"},
    {"[grid]\nout = [\"a\"]\n", "[grid] out: is of the whole sweep; it stands above the tables"},
    {"[[run]]\nmax-time = \"1h\"\n",
     "[[run]] 1: max-time: is of the whole sweep; it stands above the tables"},
    {"[grid]\nprompt = [\"a\"]\n", "[grid] prompt: lathe train does not take it"},
    {"resume = \"auto\"\n[grid]\nseed = [1]\n",
     "resume: is not for sweeps: a sweep starts its runs, and goes on with those it finds"},
    {"[[run]]\noverwrite = true\n",
     "[[run]] 1: overwrite: is not for sweeps: a sweep starts its runs, and goes on with those it "
     "finds"},
    {"steps = 5\n",
     "has no run: give a table [grid] of arrays, such as lr = [1e-3, 3e-3], or tables [[run]]"},
    {"[run]\nlr = 1\n", "run: must be tables, each of which begins with [[run]]"},
    {"run = [1]\n", "run: must be tables, each of which begins with [[run]]"},
    {"[[run]]\n", "run 1: has no option to be named by; give name = \"...\""},
    {"[grid]\nseed = [1, 2, 1]\n",
     "run 3 (seed 1): would write to here/seed1, as run 1 (seed 1) does; put what tells them apart "
     "into --name"},
    {"name = \"lr{lr}\"\n[grid]\nseed = [1, 2]\n",
     "run 2 (seed 2): would write to here/lr0.003, as run 1 (seed 1) does; put what tells them "
     "apart into --name"},
    {"[[run]]\nname = \"a.log\"\n[[run]]\nname = \"a\"\n",
     "run 2: would write to here/a.log, as run 1 does; put what tells them apart into --name"},
    {"[[run]]\nname = \"sweep.json\"\n",
     "run 1: would write to here/sweep.json, as the sweep itself does; put what tells them apart "
     "into --name"},
    {"name = \"{lrr}\"\n[grid]\nseed = [1]\n",
     "run 1 (seed 1): --name {lrr}: {lrr} is no option; did you mean {lr}?"},
    {"jobs = 0\n[grid]\nseed = [1]\n", "jobs 0: must be a whole number from 1 to 1024"},
    {"jobs = \"two\"\n[grid]\nseed = [1]\n", "jobs two: must be a whole number from 1 to 1024"},
};

TEST_F(Grid, WhatIsWrongIsOneLineThatNamesIt) {
  for (const BadGrid& bad : kBadGrids) EXPECT_EQ(refusal(bad.text, {"--out", "here"}), bad.message);
  EXPECT_NE(refusal("[grid]\nlr = [1\nx").find("grid.toml:3: "), std::string::npos);
}

TEST_F(Grid, IsNotLargerThanAnyoneMeans) {
  std::string numbers = "1";
  for (int i = 2; i <= 101; ++i) numbers += fmt::format(", {}", i);
  EXPECT_EQ(refusal(fmt::format("[grid]\nseed = [{0}]\nsteps = [{0}]\n", numbers)),
            "[grid] makes more than 10000 runs; a sweep has at most that");
}

TEST_F(Grid, AFolderThatIsSomethingElseIsRefused) {
  file_.write("runs/seed1/notes.txt", "");
  EXPECT_EQ(refusal("[grid]\nseed = [1]\n", {"--out", out()}),
            fmt::format("run 1 (seed 1): --out {}/seed1: holds files that are not a run's; give "
                        "another folder",
                        out()));
}

TEST_F(Grid, WhatAResumeCannotChangeIsRefused) {
  file_.write("runs/seed1/config.toml", "lr = 0.5\nseed = 1\n");
  EXPECT_EQ(refusal("lr = 0.25\n[grid]\nseed = [1]\n", {"--out", out()}),
            fmt::format("run 1 (seed 1): lr 0.25: the run in {}/seed1 has 0.5, which --resume "
                        "cannot change",
                        out()));
  EXPECT_EQ(names("keep = 2\n[grid]\nseed = [1]\n", {"--out", out()}), "seed1 ");
}

TEST(GpuSlots, AreTheGpusThatTheSweepSees) {
  EXPECT_EQ(visible_gpus(std::nullopt, 3), (Args{"0", "1", "2"}));
  EXPECT_EQ(visible_gpus("2,5", 2), (Args{"2", "5"}));
  EXPECT_EQ(visible_gpus("GPU-8932f937, 7", 2), (Args{"GPU-8932f937", "7"}));
  // What follows a device that there is none of is not seen: CUDA counts one.
  EXPECT_EQ(visible_gpus("3,99,4", 1), Args{"3"});
  EXPECT_EQ(visible_gpus("", 0), Args{});
  EXPECT_EQ(visible_gpus(std::nullopt, 0), Args{});
}

TEST(GpuSlots, ComeInTurn) {
  const Args gpus = {"2", "5"};
  EXPECT_EQ(gpu_of_slot(gpus, 0), "2");
  EXPECT_EQ(gpu_of_slot(gpus, 1), "5");
  EXPECT_EQ(gpu_of_slot(gpus, 2), "2");
  EXPECT_EQ(gpu_of_slot({}, 0), std::nullopt);
}

}  // namespace
}  // namespace lathe::test
