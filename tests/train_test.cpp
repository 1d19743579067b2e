// Whole runs of a tiny model: what they leave on disk, and that stopping and going on changes no
// bit of it.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "lathe/commands.h"
#include "lathe/error.h"
#include "lathe/files.h"
#include "lathe/safetensors.h"
#include "lathe/stop_signal.h"
#include "support/error_of.h"
#include "support/file_size_limit.h"
#include "support/json.h"
#include "support/temp_dir.h"
#include "support/test_device.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

class Train : public testing::Test {
 protected:
  void SetUp() override {
    std::string text;
    for (int i = 0; i < 400; ++i) text += "line " + std::to_string(i * i) + " of the text\n";
    text_ = (folder_.path() / "text.txt").string();
    write_file_atomically(text_, text);
  }

  // Runs `lathe train` with these arguments on top of a small run's; returns the exit code.
  int train(const std::string& out, std::vector<std::string> more = {}) const {
    std::vector<std::string> args = {"--quiet"};
    if (!is_resume(more)) {
      for (const char* arg :
           {"--layers=1", "--heads=2", "--channels=16", "--context=16", "--micro-batch=4",
            "--batch-tokens=128", "--steps=8", "--lr=1e-2", "--warmup-steps=2",
            "--final-lr-fraction=0.1", "--weight-decay=0.1", "--val-tokens=64", "--val-every=3",
            // On a GPU the type and the bits would depend on what it is and what is fastest.
            "--precision=fp32", "--gemm-tuning=off"}) {
        args.emplace_back(arg);
      }
      args.insert(args.end(), {"--device", test::device_option(), "--train", text_});
    }
    args.insert(args.end(), {"--out", run(out)});
    args.insert(args.end(), more.begin(), more.end());
    return train_command(parse_options(Command::train, args, {}));
  }

  static bool is_resume(const std::vector<std::string>& args) {
    for (const std::string& arg : args) {
      if (arg == "--resume") return true;
    }
    return false;
  }

  std::string run(const std::string& name) const { return (folder_.path() / name).string(); }

  std::string file(const std::string& name, const std::string& path) const {
    return read_file(fs::path(run(name)) / path, ExitCode::internal);
  }

  nlohmann::json result(const std::string& name) const {
    return test::parse_json(file(name, "result.json"));
  }

  // Values of `key` in metrics.jsonl, one per line that has it.
  std::vector<double> metric(const std::string& name, const std::string& key) const {
    std::vector<double> values;
    std::istringstream lines(file(name, "metrics.jsonl"));
    for (std::string line; std::getline(lines, line);) {
      const auto json = test::parse_json(line);
      if (json.contains(key)) values.push_back(json.at(key).get<double>());
    }
    return values;
  }

  void expect_same_weights(const std::string& a, const std::string& b) const {
    for (const char* name : {"model.safetensors", "optimizer.safetensors"}) {
      const std::string path = std::string("checkpoints/step-00000008/") + name;
      EXPECT_TRUE(file(a, path) == file(b, path)) << name << " of " << a << " and " << b;
    }
  }

  test::TempDir folder_;
  std::string text_;
};

TEST_F(Train, LeavesOneTrainingLineForEveryStep) {
  ASSERT_EQ(train("run", {"--log-every=5"}), 0);
  EXPECT_EQ(metric("run", "step"),
            (std::vector<double>{1, 2, 3, 3, 4, 5, 6, 6, 7, 8, 8}));  // 3, 6 and 8 are validated
  EXPECT_EQ(metric("run", "train/loss").size(), 8u);
  EXPECT_EQ(metric("run", "train/grad_norm").size(), 8u);
  EXPECT_EQ(metric("run", "perf/tokens_per_second").size(), 8u);
  EXPECT_EQ(metric("run", "val/loss").size(), 3u);
  const std::vector<double> lr = metric("run", "train/lr");
  EXPECT_DOUBLE_EQ(lr.at(0), 0.5e-2);
  EXPECT_DOUBLE_EQ(lr.at(1), 1e-2);
  EXPECT_DOUBLE_EQ(lr.at(7), 1e-3);
  EXPECT_NEAR(metric("run", "train/loss").front(), std::log(256.0), 0.2);
  EXPECT_LT(metric("run", "val/loss").back(), metric("run", "val/loss").front());
}

TEST_F(Train, WritesItsResult) {
  ASSERT_EQ(train("run"), 0);
  const nlohmann::json json = result("run");
  EXPECT_EQ(json.at("status"), "finished");
  EXPECT_EQ(json.at("exit_code"), 0);
  EXPECT_EQ(json.at("step"), 8);
  EXPECT_EQ(json.at("tokens"), 8 * 128);
  EXPECT_EQ(json.at("checkpoint"), "checkpoints/step-00000008");
  EXPECT_EQ(json.at("val_loss").get<double>(), metric("run", "val/loss").back());
}

TEST_F(Train, EqualRunsLeaveEqualFiles) {
  ASSERT_EQ(train("a"), 0);
  ASSERT_EQ(train("b", {"--threads=1"}), 0);
  expect_same_weights("a", "b");
  EXPECT_EQ(metric("a", "train/loss"), metric("b", "train/loss"));
  ASSERT_EQ(train("c", {"--seed=2"}), 0);
  EXPECT_NE(metric("a", "train/loss"), metric("c", "train/loss"));
}

TEST_F(Train, ResumesBitForBit) {
  for (const std::string precision : {"fp32", "bf16"}) {
    const std::string type = "--precision=" + precision;
    ASSERT_EQ(train("whole-" + precision, {type}), 0);
    ASSERT_EQ(train("cut-" + precision, {type, "--stop-at-step=4"}), 0);
    EXPECT_EQ(result("cut-" + precision).at("status"), "stopped");
    ASSERT_EQ(train("cut-" + precision, {"--resume"}), 0);
    expect_same_weights("whole-" + precision, "cut-" + precision);
    EXPECT_EQ(metric("whole-" + precision, "train/loss"), metric("cut-" + precision, "train/loss"));
  }
}

// Metrics logged after the last checkpoint come again, once.
TEST_F(Train, CutsMetricsBehindTheResumedStep) {
  ASSERT_EQ(train("run", {"--checkpoint-every=2", "--keep=0"}), 0);
  const std::string before = file("run", "checkpoints/step-00000008/model.safetensors");
  for (const char* step : {"8", "6"}) {
    fs::remove_all(run("run") + "/checkpoints/step-0000000" + step);
  }
  ASSERT_EQ(train("run", {"--resume"}), 0);
  EXPECT_EQ(metric("run", "train/loss").size(), 8u);
  EXPECT_TRUE(file("run", "checkpoints/step-00000008/model.safetensors") == before);
}

// A full disk or a kill may leave half a line.
TEST_F(Train, CutsHalfALineOfMetrics) {
  ASSERT_EQ(train("run", {"--stop-at-step=4"}), 0);
  const std::string metrics = file("run", "metrics.jsonl");
  write_file_atomically(run("run") + "/metrics.jsonl", metrics + "{\"step\":5,\n{\"step\":6,\"tr");
  ASSERT_EQ(train("run", {"--resume"}), 0);
  EXPECT_EQ(metric("run", "train/loss").size(), 8u);
}

// With the formats of llm.c's llmc/logger.h, from what metrics.jsonl says.
std::string llmc_lines(const std::string& metrics) {
  std::string text;
  std::istringstream lines(metrics);
  for (std::string line; std::getline(lines, line);) {
    const auto json = test::parse_json(line);
    if (json.contains("event")) continue;  // llm.c has none
    std::array<char, 100> row{};
    if (json.contains("val/loss")) {
      std::snprintf(row.data(), row.size(), "s:%d tel:%.4f\n", json.at("step").get<int>(),
                    json.at("val/loss").get<double>());
    } else {
      std::snprintf(row.data(), row.size(), "s:%d trl:%.4f lr:%.6f norm:%.2f\n",
                    json.at("step").get<int>() - 1, json.at("train/loss").get<double>(),
                    json.at("train/lr").get<double>(), json.at("train/grad_norm").get<double>());
    }
    text += row.data();
  }
  return text;
}

TEST_F(Train, WritesAndCutsLlmcsLog) {
  ASSERT_EQ(train("run", {"--llmc-log", "--checkpoint-every=3", "--keep=0"}), 0);
  const std::string whole = file("run", "main.log");
  EXPECT_EQ(whole, llmc_lines(file("run", "metrics.jsonl")));
  EXPECT_EQ(std::ranges::count(whole, '\n'), 8 + 3);
  // Of step 6 the validation stays, and of the steps behind it nothing.
  fs::remove_all(run("run") + "/checkpoints/step-00000008");
  write_file_atomically(run("run") + "/main.log", whole + "s:8 tr");
  ASSERT_EQ(train("run", {"--resume", "--stop-at-step=7"}), 0);
  EXPECT_EQ(file("run", "main.log"), llmc_lines(file("run", "metrics.jsonl")));
  const std::string until_7 = file("run", "main.log");
  ASSERT_EQ(train("run", {"--resume", "--no-llmc-log"}), 0);
  EXPECT_EQ(file("run", "main.log") + "s:7 tel:" + until_7.substr(until_7.rfind(':') + 1), until_7);
  ASSERT_EQ(train("run", {"--overwrite"}), 0);
  EXPECT_FALSE(fs::exists(run("run") + "/main.log"));
}

TEST_F(Train, ResumesWithAnotherMicroBatchInTheSameOrder) {
  ASSERT_EQ(train("whole"), 0);
  ASSERT_EQ(train("cut", {"--stop-at-step=3"}), 0);
  ASSERT_EQ(train("cut", {"--resume", "--micro-batch=2"}), 0);
  const std::vector<double> expected = metric("whole", "train/loss");
  const std::vector<double> actual = metric("cut", "train/loss");
  ASSERT_EQ(actual.size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_NEAR(actual[i], expected[i], 1e-5 * expected[i]) << "step " << i + 1;
  }
}

TEST_F(Train, AutoResumeStartsGoesOnAndRests) {
  const std::vector<std::string> automatic = {"--resume=auto", "--stop-at-step=4"};
  ASSERT_EQ(train("run", automatic), 0);
  EXPECT_EQ(result("run").at("step"), 4);
  ASSERT_EQ(train("run", {"--resume=auto"}), 0);
  EXPECT_EQ(result("run").at("step"), 8);
  const std::string metrics = file("run", "metrics.jsonl"), done = file("run", "result.json");
  ASSERT_EQ(train("run", {"--resume=auto"}), 0);
  EXPECT_EQ(file("run", "metrics.jsonl"), metrics);
  EXPECT_EQ(test::parse_json(done).at("val_loss"), result("run").at("val_loss"));
}

// Going back to an older checkpoint neither mixes its future with the one that was nor loses that.
TEST_F(Train, GoesBackToAnOlderCheckpoint) {
  ASSERT_EQ(train("run", {"--checkpoint-every=2", "--keep=0"}), 0);
  const std::string last = file("run", "checkpoints/step-00000008/model.safetensors");
  ASSERT_EQ(train("run", {"--resume", run("run") + "/checkpoints/step-00000004", "--keep=3"}), 0);
  EXPECT_EQ(metric("run", "train/loss").size(), 8u);
  EXPECT_TRUE(file("run", "checkpoints/step-00000008/model.safetensors") == last);
  EXPECT_TRUE(file("run", "checkpoints/set-aside-0-step-00000008/model.safetensors") == last);
}

TEST_F(Train, SavingInTheBackgroundChangesNoBit) {
  const std::vector<std::string> often = {"--checkpoint-every=1", "--keep=0", "--precision=bf16"};
  std::vector<std::string> waiting = often;
  waiting.emplace_back("--no-background-save");
  ASSERT_EQ(train("a", often), 0);
  ASSERT_EQ(train("b", waiting), 0);
  for (int step = 1; step <= 8; ++step) {
    for (const char* name : {"model.safetensors", "optimizer.safetensors"}) {
      const std::string path = fmt::format("checkpoints/step-{:08}/{}", step, name);
      EXPECT_TRUE(file("a", path) == file("b", path)) << path;
    }
  }
  EXPECT_EQ(result("a").at("failed_saves"), 0);
}

// A run validates after it has saved: wherever it was cut, it has measured the same in the end.
TEST_F(Train, AnInterruptedRunHasTheSameMetrics) {
  // Without what depends on time, and on how often the run went on.
  const auto measured = [&](const std::string& name) {
    std::vector<nlohmann::json> all;
    std::istringstream lines(file(name, "metrics.jsonl"));
    for (std::string line; std::getline(lines, line);) {
      auto values = test::parse_json(line);
      values.erase("perf/tokens_per_second");
      if (!values.contains("event")) all.push_back(std::move(values));
    }
    return all;
  };
  const std::vector<std::string> options = {"--val-every=2", "--checkpoint-every=4", "--keep=0",
                                            "--sample-every=4"};
  ASSERT_EQ(train("whole", options), 0);
  const auto state = test::parse_json(file("whole", "checkpoints/step-00000004/state.json"));
  EXPECT_EQ(state.at("state").at("validated_step"), 2);
  for (const int step :
       {3, 4, 6}) {  // of validations that are not due, are due, have no checkpoint
    const std::string name = "cut-" + std::to_string(step);
    std::vector<std::string> until = options;
    until.push_back("--stop-at-step=" + std::to_string(step));
    ASSERT_EQ(train(name, until), 0);
    ASSERT_EQ(train(name, {"--resume"}), 0);
    EXPECT_EQ(measured(name), measured("whole")) << step;
    for (const char* key : {"best_val_loss", "best_val_step", "val_loss"}) {
      EXPECT_EQ(result(name).at(key), result("whole").at(key)) << step << key;
    }
  }
  // Killed after its last save: the validation, the sample and the result are made up for.
  fs::remove(run("whole") + "/result.json");
  fs::remove_all(run("whole") + "/samples");
  const auto before = measured("whole");
  ASSERT_EQ(train("whole", {"--resume"}), 0);
  EXPECT_EQ(measured("whole"), before);
  EXPECT_TRUE(fs::exists(run("whole") + "/samples/step-00000008.txt"));
  EXPECT_EQ(result("whole").at("best_val_step"), 8);
}

TEST_F(Train, TheBestCheckpointStays) {
  // The more is known of the text, the less is thought of this.
  const std::string val = (folder_.path() / "val.txt").string();
  write_file_atomically(val, std::string(1000, 'Z'));
  ASSERT_EQ(train("run", {"--val", val, "--val-every=3", "--checkpoint-every=2", "--keep=1",
                          "--keep-best", "--steps=12"}),
            0);
  const auto best = result("run").at("best_val_step").get<int>();
  ASSERT_LT(best, 12) << "the test needs a run that gets worse";
  const fs::path checkpoints = fs::path(run("run")) / "checkpoints";
  EXPECT_TRUE(fs::exists(checkpoints / fmt::format("step-{:08}", best)));
  EXPECT_TRUE(fs::exists(checkpoints / "step-00000012"));
  EXPECT_EQ(fs::read_symlink(checkpoints / "latest"), "step-00000012");
}

TEST_F(Train, ACheckpointAloneIsEnoughToGoOn) {
  ASSERT_EQ(train("whole"), 0);
  ASSERT_EQ(train("cut", {"--stop-at-step=4"}), 0);
  const std::string alone = run("alone");
  fs::copy(run("cut") + "/checkpoints/step-00000004", alone);
  EXPECT_THROW(train("whole", {"--resume", alone}), Error);  // that is another run
  ASSERT_EQ(train("other", {"--resume", alone, "--stop-at-step=5"}), 0);
  EXPECT_TRUE(fs::exists(run("other") + "/checkpoints/step-00000004/state.json"));
  ASSERT_EQ(train("other", {"--resume"}), 0);
  expect_same_weights("whole", "other");
  // Nor does a run need its own config.toml.
  write_file_atomically(run("cut") + "/config.toml", "lr = \n");
  ASSERT_EQ(train("cut", {"--resume", "--stop-at-step=6"}), 0);
  fs::remove(run("cut") + "/config.toml");
  ASSERT_EQ(train("cut", {"--resume"}), 0);
  expect_same_weights("whole", "cut");
}

// No checkpoint fits, nor do all the metrics: the steps are made all the same, no line is cut
// short, and the end says what is missing.
TEST_F(Train, AFullDiskEndsARunAtItsEndAlone) {
  const std::string error = test::error_of([&] {
    const test::FileSizeLimit limit(1500);
    train("run",
          {"--steps=20", "--checkpoint-every=0", "--save-retries=3", "--save-retry-seconds=0.001"});
  });
  EXPECT_TRUE(error.starts_with("exit 6: saving has failed 4 times in a row")) << error;
  EXPECT_EQ(result("run").at("step"), 20);
  EXPECT_EQ(result("run").at("exit_code"), 6);
  EXPECT_EQ(result("run").at("failed_saves"), 4);
  EXPECT_LT(metric("run", "train/loss").size(), 20u);
  EXPECT_TRUE(file("run", "metrics.jsonl").ends_with("}\n"));
}

TEST_F(Train, VerifySaysWhichCheckpointsAreWhole) {
  const auto verify = [](const std::string& path) {
    return verify_command(parse_options(Command::verify, std::vector<std::string>{path}, {}));
  };
  ASSERT_EQ(train("run", {"--checkpoint-every=4"}), 0);
  EXPECT_EQ(verify(run("run")), 0);
  EXPECT_EQ(verify(run("run") + "/checkpoints/step-00000004"), 0);
  fs::resize_file(run("run") + "/checkpoints/step-00000004/optimizer.safetensors", 1000);
  EXPECT_EQ(verify(run("run")), 4);
  EXPECT_EQ(verify(run("run") + "/checkpoints/step-00000008"), 0);
  EXPECT_EQ(test::error_of([&] { verify(run("none")); }),
            "exit 4: " + run("none") + ": no such checkpoint or run folder");
}

TEST_F(Train, ExtendsTheHorizon) {
  ASSERT_EQ(train("run", {"--lr-schedule=constant"}), 0);
  ASSERT_EQ(train("run", {"--resume", "--steps=10"}), 0);
  EXPECT_EQ(metric("run", "train/loss").size(), 10u);
}

TEST_F(Train, RefusesWhatAResumeMayNotChange) {
  ASSERT_EQ(train("run", {"--stop-at-step=2"}), 0);
  for (const char* change : {"--channels=32", "--seed=7", "--lr=1", "--seq-len=8", "--steps=1"}) {
    try {
      train("run", {"--resume", change});
      FAIL() << change << " was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::usage) << change;
    }
  }
}

TEST_F(Train, RefusesARunFolderInUse) {
  ASSERT_EQ(train("run", {"--steps=1"}), 0);
  const std::string metrics = file("run", "metrics.jsonl");
  EXPECT_THROW(train("run"), Error);
  EXPECT_EQ(file("run", "metrics.jsonl"), metrics);
  ASSERT_EQ(train("run", {"--overwrite", "--steps=2"}), 0);
  EXPECT_EQ(result("run").at("step"), 2);
}

TEST_F(Train, DivergenceEndsInExitSevenAndKeepsTheCheckpoint) {
  try {
    train("run", {"--lr=1e30", "--warmup-steps=0", "--grad-clip=0", "--checkpoint-every=1"});
    FAIL() << "a run at lr 1e30 finished";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::diverged);
  }
  EXPECT_EQ(result("run").at("status"), "failed");
  EXPECT_EQ(result("run").at("exit_code"), 7);
}

TEST_F(Train, StartsFromOtherWeights) {
  ASSERT_EQ(train("a"), 0);
  ASSERT_EQ(train("b", {"--init-from", run("a"), "--steps=1"}), 0);
  EXPECT_LT(metric("b", "train/loss").front(), 0.9 * metric("a", "train/loss").front());
}

// A step at no learning rate to speak of leaves the weights as they were taken over.
TEST_F(Train, StartsFromTheMasterWeightsOfABf16Run) {
  ASSERT_EQ(train("a", {"--precision=bf16"}), 0);
  ASSERT_EQ(train("b", {"--init-from", run("a"), "--steps=1", "--lr=1e-30"}), 0);
  const SafetensorsReader expected(run("a") + "/checkpoints/step-00000008/optimizer.safetensors",
                                   ExitCode::internal);
  const SafetensorsReader actual(run("b") + "/checkpoints/step-00000001/model.safetensors",
                                 ExitCode::internal);
  ASSERT_FALSE(actual.tensors().empty());
  for (const TensorInfo& tensor : actual.tensors()) {
    const TensorInfo* master = expected.find("master." + tensor.name);
    ASSERT_NE(master, nullptr) << tensor.name;
    std::vector<std::byte> found(tensor.end - tensor.begin), wanted(master->end - master->begin);
    actual.read(tensor, 0, found);
    expected.read(*master, 0, wanted);
    EXPECT_TRUE(found == wanted) << tensor.name;
  }
}

// The last validation, of the whole text, takes longer than it takes to see that it has begun.
TEST_F(Train, AStopSignalEndsAValidation) {
  std::string long_text;
  while (long_text.size() < 4'000'000) long_text += "all work and no play\n";
  const std::string val = (folder_.path() / "val.txt").string();
  write_file_atomically(val, long_text);
  {
    const std::jthread sender([this](const std::stop_token& end) {
      while (!end.stop_requested()) {
        std::error_code no_file_yet;
        if (fs::file_size(fs::path(run("run")) / "log.txt", no_file_yet) > 0 && !no_file_yet &&
            metric("run", "train/loss").size() == 8) {
          kill(getpid(), SIGTERM);
          return;
        }
      }
    });
    EXPECT_EQ(train("run", {"--val", val, "--val-every=0", "--val-tokens=4M", "--threads=1"}),
              128 + SIGTERM);
  }
  EXPECT_EQ(result("run").at("status"), "stopped");
  EXPECT_EQ(result("run").at("checkpoint"), "checkpoints/step-00000008");
  EXPECT_TRUE(metric("run", "val/loss").empty());
  watch_stop_signals();  // forgets the signal
  ASSERT_EQ(train("run", {"--resume", "--val-tokens=64"}), 0);
  EXPECT_EQ(metric("run", "val/loss").size(), 1u);
}

// A model that has seen the lines knows how they go on; the task stands in the metrics under the
// name of its file, with every validation, also where there are no validation data.
TEST_F(Train, AnswersMultipleChoiceWithEveryValidation) {
  const std::string task = (folder_.path() / "lines.jsonl").string();
  write_file_atomically(task, R"({"ctx":"of the","endings":["text","xqzj"],"label":0})"
                              "\n"
                              R"({"ctx":"line","endings":["xqzj","100 of"],"label":1})"
                              "\n");
  write_file_atomically(folder_.path() / "other.jsonl", read_file(task, ExitCode::data));
  const std::string other = (folder_.path() / "other.jsonl").string();
  ASSERT_EQ(train("run", {"--multiple-choice", task, other, "--steps=60", "--llmc-log"}), 0);
  EXPECT_EQ(metric("run", "val/lines/acc").size(), 20u);
  // llm.c's log has one accuracy.
  const std::string llmc_log = file("run", "main.log");
  EXPECT_TRUE(llmc_log.ends_with("\ns:60 eval:1.0000\n")) << llmc_log;
  std::size_t lines = 0;
  for (std::size_t at = 0; (at = llmc_log.find(" eval:", at)) != llmc_log.npos; ++at) ++lines;
  EXPECT_EQ(lines, 20u);
  EXPECT_EQ(metric("run", "val/lines/acc_norm").back(), 1.0);
  EXPECT_EQ(metric("run", "val/loss").size(), 20u);
  ASSERT_EQ(train("other", {"--steps=60"}), 0);
  EXPECT_EQ(metric("other", "train/loss"), metric("run", "train/loss"));
  EXPECT_THROW(train("more", {"--multiple-choice", task, task}), Error);
  EXPECT_FALSE(fs::exists(run("more")));
}

TEST_F(Train, ValidationDoesNotDependOnTheMicroBatch) {
  ASSERT_EQ(train("a", {"--steps=1"}), 0);
  ASSERT_EQ(train("b", {"--steps=1", "--micro-batch=1"}), 0);
  EXPECT_NEAR(metric("a", "val/loss").front(), metric("b", "val/loss").front(), 1e-5);
}

// The golden order: with --no-shuffle, row b of step k starts at token (k * rows + b) * T.
TEST_F(Train, UnshuffledLossesDoNotDependOnTheSeedsOrder) {
  ASSERT_EQ(train("a", {"--no-shuffle", "--steps=3"}), 0);
  ASSERT_EQ(train("b", {"--no-shuffle", "--steps=3", "--micro-batch=8"}), 0);
  const std::vector<double> a = metric("a", "train/loss"), b = metric("b", "train/loss");
  for (std::size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 1e-5 * a[i]);
}

}  // namespace
}  // namespace lathe
