// --name: what a template makes of options, what it refuses, and that a run is found again by it.
#include "options/run_name.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "support/error_of.h"
#include "support/json.h"
#include "support/process.h"
#include "support/temp_dir.h"

namespace lathe::test {
namespace {

namespace fs = std::filesystem;
using Args = std::vector<std::string>;

Options train(const Args& args, const Environment& environment = {}) {
  return parse_options(Command::train, args, environment);
}

std::string refusal(const Args& args) {
  return error_of([&] { train(args); });
}

TEST(RunName, HasValuesAsConfigTomlHasThem) {
  Options options = default_options();
  options.lr = 1e-3;
  options.seed = 7;
  const auto name = [&](const char* text) { return run_name(text, options); };
  EXPECT_EQ(name("lr{lr}-s{seed}"), "lr0.001-s7");
  EXPECT_EQ(name("baseline 2"), "baseline 2");
  EXPECT_EQ(name("{eps}{beta2}"), "1e-080.95");
  EXPECT_EQ(name("{shuffle}.{keep-best}.{lr-schedule}"), "true.false.cosine");
  EXPECT_EQ(name("{{lr}}"), "{lr}");
  EXPECT_EQ(name("{{{lr}}}"), "{0.001}");
  options.lr = 0.1 + 0.2;
  EXPECT_EQ(name("{lr}"), "0.30000000000000004");
  options.tokens = 2'000'000;
  EXPECT_EQ(name("{tokens}"), "2000000");
}

TEST(RunName, ReplacesWhatAFileNameShouldNotHave) {
  Options options = default_options();
  options.train = {"../my data/*.bin", "caf\u00e9's.txt"};
  EXPECT_EQ(run_name("{train}", options), "..-my-data-.bin-caf-s.txt");
  options.stop_if = {"val_loss>3.9@1000"};
  EXPECT_EQ(run_name("x-{stop-if}", options), "x-val_loss-3.9-1000");
  options.init_from = "/";
  EXPECT_EQ(run_name("{init-from}", options), "-");
}

TEST(RunName, RefusesInOneLineWhatMakesNone) {
  const auto refused = [](const std::string& name) { return refusal({"--name", name}); };
  EXPECT_EQ(refused("lr{lrr}"), "exit 2: --name lr{lrr}: {lrr} is no option; did you mean {lr}?");
  EXPECT_EQ(
      refused("{micro_batch}"),
      "exit 2: --name {micro_batch}: {micro_batch} is no option; did you mean {micro-batch}?");
  EXPECT_EQ(refused("{zebra}"),
            "exit 2: --name {zebra}: {zebra} is no option; see lathe train --help");
  EXPECT_EQ(refused("{}"), "exit 2: --name {}: {''} is no option; see lathe train --help");
  for (const std::string key : {"name", "out", "resume", "threads", "top-k", "stop-at-step"}) {
    const std::string name = "{" + key + "}";
    EXPECT_EQ(refused(name), "exit 2: --name " + name + ": " + name +
                                 " is nothing that a run keeps in its config.toml");
  }
  EXPECT_EQ(refused("{seq-len}"),
            "exit 2: --name {seq-len}: --seq-len has no value to stand in a name; give one");
  EXPECT_EQ(refused("a{lr"), "exit 2: --name a{lr: a { without its }; {{ stands for a brace");
  EXPECT_EQ(refused("{lr}}"), "exit 2: --name {lr}}: a } without its {; }} stands for a brace");
  EXPECT_EQ(refused("a/{lr}"),
            "exit 2: --name a/{lr}: a name is one folder, without /; --out says where it lies");
  EXPECT_EQ(refused("a\nb"), "exit 2: --name a\\nb: holds a control character");
  EXPECT_EQ(refused(""), "exit 2: --name '': must be TEXT, not empty");
  EXPECT_EQ(refused(".."), "exit 2: --name ..: makes the name '..', which no folder can have");
  EXPECT_EQ(refusal({"--train=.", "--name={train}"}),
            "exit 2: --name {train}: makes the name '.', which no folder can have");
  EXPECT_EQ(train({"--name", std::string(255, 'a')}).out, "runs/" + std::string(255, 'a'));
  EXPECT_TRUE(refused(std::string(256, 'a'))
                  .ends_with("makes a name of 256 bytes; a folder's has "
                             "at most 255"));
}

TEST(RunName, IsAFolderInOut) {
  const Args name = {"--name=lr{lr}-s{seed}"};
  EXPECT_EQ(train({"--out=grid", "--lr=1e-3", name[0]}).out, "grid/lr0.001-s1337");
  EXPECT_EQ(train({"--out=grid/", "--lr=1e-3", name[0]}).out, "grid/lr0.001-s1337");
  EXPECT_EQ(train({"--train=a.txt", name[0]}).out, "runs/lr0.0003-s1337");
  EXPECT_EQ(train({name[0]}).out, "runs/lr0.003-s1337") << "the rate of the stories";
  EXPECT_EQ(parse_options(Command::plan, name, {}).out, train(name).out);
}

TEST(RunName, ComesFromEverySource) {
  const TempDir dir;
  const std::string config = dir.write("run.toml", "name = \"{seed}\"\nseed = 5\nout = \"x\"\n");
  EXPECT_EQ(train({"--config", config}).out, "x/5");
  EXPECT_EQ(train({"--config", config}, {{"LATHE_SEED", "6"}}).out, "x/6");
  EXPECT_EQ(train({"--config", config}, {{"LATHE_NAME", "s{seed}"}}).out, "x/s5");
  EXPECT_EQ(train({"--config", config, "--name", "flag", "--out", "y"}).out, "y/flag");
  EXPECT_EQ(to_toml(train({"--config", config})).find("name"), std::string::npos);
}

// A run of one step in a folder of their own.
class NamedRuns : public testing::Test {
 protected:
  ProcessResult run(const Args& more) const {
    Args arguments = {lathe_binary(),  "train",          "--layers=1",      "--heads=1",
                      "--channels=8",  "--context=8",    "--micro-batch=1", "--steps=2",
                      "--val-every=0", "--val-tokens=8", "--quiet",         "--threads=1"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_process({.arguments = arguments, .folder = dir_.path()});
  }

  std::string status(const std::string& folder) const {
    return parse_json(read_file(dir_ / (folder + "/result.json"))).at("status");
  }

  TempDir dir_;
};

TEST_F(NamedRuns, AreFoundAgain) {
  const Args name = {"--out=grid", "--name=lr{lr}-s{seed}", "--lr=1e-3", "--seed=2"};
  const auto with = [&](const Args& more) {
    Args arguments = name;
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run(arguments);
  };
  EXPECT_EQ(with({"--resume=auto", "--stop-at-step=1"}).exit_code, 0);
  EXPECT_EQ(status("grid/lr0.001-s2"), "stopped");
  EXPECT_EQ(with({"--resume=auto"}).exit_code, 0);
  EXPECT_EQ(status("grid/lr0.001-s2"), "finished");
  EXPECT_NE(with({"--resume=auto"}).out.find("nothing to do"), std::string::npos);

  const ProcessResult again = with({});
  EXPECT_EQ(again.exit_code, 2);
  EXPECT_NE(again.err.find("--out grid/lr0.001-s2"), std::string::npos) << again.err;
  EXPECT_EQ(with({"--overwrite"}).exit_code, 0);
  EXPECT_EQ(
      with({"--resume", "--seed=3"}).err,
      "lathe: --resume: no run in grid/lr0.001-s3, it has no config.toml; --resume=auto would "
      "start one\n");
  // Resuming by path needs no name, and none that is another's.
  EXPECT_EQ(run_process({.arguments = lathe_arguments("train --resume=grid/lr0.001-s2"),
                         .folder = dir_.path()})
                .exit_code,
            0);
  EXPECT_EQ(with({"--resume=grid/lr0.001-s2"}).exit_code, 0);
  EXPECT_EQ(with({"--resume=grid/lr0.001-s2", "--seed=3"}).err,
            "lathe: --resume grid/lr0.001-s2 and --name grid/lr0.001-s3: must be the same run\n");
  EXPECT_EQ(std::distance(fs::directory_iterator(dir_.path() / "grid"), {}), 1);
}

TEST_F(NamedRuns, KeepTheNameThatTheirOptionsMake) {
  EXPECT_EQ(run({"--out=a", "--seed=5"}).exit_code, 0);
  // A checkpoint alone goes on with its own seed, whatever the command's default is.
  fs::rename(dir_.path() / "a/checkpoints/step-00000002", dir_.path() / "alone");
  EXPECT_EQ(run({"--resume=alone", "--out=b", "--name=s{seed}"}).err,
            "lathe: --name s{seed}: by the options of the run to resume its name is s5, and s1337 "
            "by those given; give the same ones\n");
  EXPECT_EQ(run({"--resume=alone", "--out=b", "--name=s{seed}", "--seed=5", "--steps=3"}).exit_code,
            0);
  EXPECT_EQ(status("b/s5"), "finished");
}

TEST_F(NamedRuns, DoNotLieInARun) {
  EXPECT_EQ(run({"--out=a"}).exit_code, 0);
  EXPECT_EQ(run({"--out=a", "--name=b"}).err,
            "lathe: --out a: is a run's own folder; with --name it is the one that runs lie in\n");
}

TEST_F(NamedRuns, AreShownByPlan) {
  const auto plan = [&](const std::string& more) {
    return run_process({.arguments = lathe_arguments("plan --out x --name s{seed}" + more),
                        .folder = dir_.path()})
        .out;
  };
  EXPECT_NE(plan("").find("folder       x/s1337\n"), std::string::npos) << plan("");
  EXPECT_EQ(parse_json(plan(" --json")).at("out"), "x/s1337");
  EXPECT_FALSE(fs::exists(dir_.path() / "x"));
}

}  // namespace
}  // namespace lathe::test
