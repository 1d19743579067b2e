// What ends a run before its last step: signals, --max-time, and rules about its metrics. Each at
// the step it should, with nothing lost, and the same whether or not the run was interrupted.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "lathe/files.h"
#include "lathe/options.h"
#include "lathe/random.h"
#include "lathe/stop_rules.h"
#include "lathe/stop_signal.h"
#include "support/error_of.h"
#include "support/expect_error.h"
#include "support/process.h"
#include "support/small_run.h"

namespace lathe::test {
namespace {

constexpr int kSignals[] = {SIGTERM, SIGINT, SIGUSR1, SIGUSR2, SIGHUP, SIGXCPU};

std::string lines_of_text() {
  std::string text;
  for (int i = 0; i < 400; ++i) text += fmt::format("line {} of the text\n", i * i);
  return text;
}

TEST(Duration, IsReadInSeconds) {
  EXPECT_EQ(parse_duration("max-time", "90"), 90);
  EXPECT_EQ(parse_duration("max-time", "0.25"), 0.25);
  EXPECT_EQ(parse_duration("max-time", "90s"), 90);
  EXPECT_EQ(parse_duration("max-time", "45m"), 2700);
  EXPECT_EQ(parse_duration("max-time", "3h55m"), 14100);
  EXPECT_EQ(parse_duration("max-time", "3h05m"), 11100);
  EXPECT_EQ(parse_duration("max-time", "2d"), 172800);
  EXPECT_EQ(parse_duration("max-time", "1d2h3m4s"), 93784);
  EXPECT_EQ(parse_duration("max-time", "1.5h"), 5400);
}

TEST(Duration, IsRefusedInOneLine) {
  for (const char* text : {"", "0", "0s", "3x", "h", "-5", "5m3h", "3h3h", "1h30", "nan", "inf",
                           "1e3", "3 h", "3h ", "s", ".5", "99999999999", "0x10"}) {
    expect_error(ExitCode::usage,
                 fmt::format("--max-time {}: must be a time above 0, such as 3h55m, 90s or 1d12h "
                             "(d, h, m, s in this order), or a number of seconds",
                             *text == '\0' ? "''" : text),
                 [&] { parse_duration("max-time", text); });
  }
}

TEST(StopRule, IsRead) {
  const StopRule a = parse_stop_rule("val_loss>3.9@1000");
  EXPECT_TRUE(a.metric == StopMetric::val_loss && a.above);
  EXPECT_EQ(a.value, 3.9);
  EXPECT_EQ(a.first_step, 1000);
  EXPECT_EQ(a.text, "val_loss>3.9@1000");
  const StopRule b = parse_stop_rule("tokens_per_second < 10K");
  EXPECT_TRUE(b.metric == StopMetric::tokens_per_second && !b.above);
  EXPECT_EQ(b.value, 10'000);
  EXPECT_EQ(b.first_step, 0);
}

TEST(StopRule, IsRefusedWithWhatIsWrong) {
  const auto message = [](const std::string& rule) {
    return error_of([&] { parse_stop_rule(rule); });
  };
  EXPECT_EQ(message("val_loss=3"),
            "exit 2: --stop-if val_loss=3: must be METRIC>VALUE or METRIC<VALUE, with @STEP behind "
            "it or not");
  EXPECT_EQ(message("val_los>3"),
            "exit 2: --stop-if val_los>3: val_los is no metric, did you mean val_loss?; must be "
            "one of val_loss, train_loss, grad_norm, tokens_per_second");
  EXPECT_EQ(message("lr>3"),
            "exit 2: --stop-if lr>3: lr is no metric; must be one of val_loss, train_loss, "
            "grad_norm, tokens_per_second");
  EXPECT_EQ(message("val_loss>"),
            "exit 2: --stop-if val_loss>: '' is no value; must be a number 0 or more");
  EXPECT_EQ(message("val_loss>nan"),
            "exit 2: --stop-if val_loss>nan: nan is no value; must be a number 0 or more");
  for (const char* rule : {"val_loss>3@", "val_loss>3@0", "val_loss>3@1.5", "val_loss>3@x"}) {
    EXPECT_TRUE(message(rule).ends_with("is no step; must be a whole number from 1 to 1e15"))
        << message(rule);
  }
}

// Against the definition: none of the last N losses is below all that came before them.
TEST(StopRules, PatienceCountsValidationsWithoutANewBest) {
  const RandomKey key{.seed = 3, .stream = RandomStream::sampling, .substream = 0};
  for (const std::int64_t patience : {1, 2, 5}) {
    Options options = default_options();
    options.patience = patience;
    const StopRules rules(options);
    StopRuleState state;
    std::vector<double> losses;
    for (std::int64_t step = 1; state.end_reason.empty(); ++step) {
      ASSERT_LT(step, 1000);
      losses.push_back(3 + uniform(key, static_cast<std::uint64_t>(100 * patience + step)) -
                       0.03 * static_cast<double>(step));
      rules.observe_validation(state, step, losses.back());
      const auto last = losses.end() - std::min<std::ptrdiff_t>(patience, std::ssize(losses));
      const bool is_over = last != losses.begin() && *std::min_element(last, losses.end()) >=
                                                         *std::min_element(losses.begin(), last);
      EXPECT_EQ(!state.end_reason.empty(), is_over) << "step " << step;
    }
    EXPECT_EQ(state.end_reason, "patience");
  }
}

TEST(StopRules, TheFirstThatIsMetCounts) {
  Options options = default_options();
  options.stop_if = {"train_loss>5@3", "grad_norm<1"};
  options.target_val_loss = 2;
  const StopRules rules(options);
  StopRuleState state;
  rules.observe(state, 2, StopMetric::train_loss, 9);
  rules.observe(state, 3, StopMetric::train_loss, 5);
  rules.observe(state, 3, StopMetric::val_loss, 9);
  rules.observe(state, 3, StopMetric::grad_norm, 1);
  rules.observe_validation(state, 3, 2.1);
  EXPECT_EQ(state.end_reason, "");
  rules.observe(state, 3, StopMetric::train_loss, 5.1);
  rules.observe_validation(state, 4, 2);
  EXPECT_EQ(state.end_reason, "stop_if");
  EXPECT_EQ(state.end_detail, "train_loss>5@3");
  StopRuleState other;
  rules.observe_validation(other, 4, 2);
  EXPECT_EQ(other.end_reason, "target_val_loss");
}

class Stop : public testing::Test {
 protected:
  void TearDown() override { watch_stop_signals(); }  // forgets what has asked

  // The step of the first validation whose loss meets the condition.
  std::int64_t first_validation(const std::string& run, const auto& meets) const {
    for (const auto& line : runs_.lines(run, "val/loss")) {
      if (meets(line.at("val/loss").get<double>())) return line.at("step").get<std::int64_t>();
    }
    return -1;
  }

  SmallRuns runs_ = SmallRuns(lines_of_text());
};

TEST_F(Stop, ARuleEndsARunAsFinished) {
  ASSERT_EQ(runs_.train("whole", {"--val-every=1"}), 0);
  const double wanted = runs_.lines("whole", "val/loss").at(4).at("val/loss").get<double>();
  const auto step = first_validation("whole", [&](double loss) { return loss <= wanted; });
  const std::string target = fmt::format("--target-val-loss={}", wanted);
  ASSERT_EQ(runs_.train("run", {"--val-every=1", target}), 0);
  auto result = runs_.result("run");
  EXPECT_EQ(result.at("status"), "finished");
  EXPECT_EQ(result.at("end_reason"), "target_val_loss");
  EXPECT_EQ(result.at("end_detail"), fmt::format("val_loss<={}", wanted));
  EXPECT_EQ(result.at("step"), step);
  EXPECT_EQ(result.at("checkpoint"), fmt::format("checkpoints/step-{:08}", step));
  EXPECT_EQ(std::ssize(runs_.lines("run", "train/loss")), step);

  const std::string before = runs_.file("run", "result.json");
  EXPECT_EQ(runs_.train("run", {"--resume=auto"}), 0);
  EXPECT_EQ(runs_.file("run", "result.json"), before);
  EXPECT_EQ(runs_.train("run", {"--resume", "--target-val-loss=1e-9"}), 0);
  result = runs_.result("run");
  EXPECT_EQ(result.at("end_reason"), "steps");
  EXPECT_EQ(result.at("end_detail"), nullptr);
  EXPECT_TRUE(runs_.same_tensors("run", 8, "whole", 8));
}

TEST_F(Stop, ARuleCountsFromItsStepOn) {
  ASSERT_EQ(runs_.train("run", {"--stop-if", "train_loss>1@5", "--checkpoint-every=5"}), 0);
  EXPECT_EQ(runs_.result("run").at("step"), 5);
  EXPECT_EQ(runs_.result("run").at("end_detail"), "train_loss>1@5");
  // Killed when all was saved and nothing said, or half of it: the checkpoint knows.
  for (const char* said : {"", "{\"status\": \"finished\"", "[]"}) {
    ASSERT_EQ(std::remove(runs_.path("run", "result.json").c_str()), 0);
    if (*said != '\0') write_file_atomically(runs_.path("run", "result.json"), said);
    ASSERT_EQ(runs_.train("run", {"--resume=auto"}), 0);
    EXPECT_EQ(runs_.result("run").at("step"), 5);
    EXPECT_EQ(runs_.result("run").at("end_reason"), "stop_if");
  }
}

// However often it was interrupted, and where.
TEST_F(Stop, PatienceEndsAnInterruptedRunAtTheSameStep) {
  const std::vector<std::string> args = {"--val-every=2", "--patience=2", "--lr=0.3", "--steps=40"};
  ASSERT_EQ(runs_.train("whole", args), 0);
  const auto end = runs_.result("whole").at("step").get<std::int64_t>();
  ASSERT_EQ(runs_.result("whole").at("end_reason"), "patience");
  ASSERT_GT(end, 6);
  for (const std::int64_t first : {1, 2}) {
    const std::string name = fmt::format("cut-{}", first);
    std::vector<std::string> cut = args;
    cut.push_back(fmt::format("--stop-at-step={}", first));
    ASSERT_EQ(runs_.train(name, cut), 0);
    for (std::int64_t step = first; step < end && runs_.result(name).at("status") == "stopped";) {
      step += 2;
      ASSERT_EQ(runs_.train(name, {"--resume", fmt::format("--stop-at-step={}", step)}), 0);
    }
    EXPECT_EQ(runs_.result(name).at("end_reason"), "patience");
    EXPECT_EQ(runs_.result(name).at("step"), end);
    EXPECT_TRUE(runs_.same_tensors(name, end, "whole", end));
  }
}

TEST_F(Stop, TheEndOfItsTimeEndsARunThatGoesOnLater) {
  ASSERT_EQ(runs_.train("whole"), 0);
  EXPECT_EQ(runs_.train("run", {"--max-time=0.0001"}), 124);
  const auto result = runs_.result("run");
  EXPECT_EQ(result.at("status"), "stopped");
  EXPECT_EQ(result.at("end_reason"), "max_time");
  EXPECT_EQ(result.at("exit_code"), 124);
  ASSERT_EQ(runs_.train("run", {"--resume=auto"}), 0);
  EXPECT_TRUE(runs_.same_tensors("run", 8, "whole", 8));
}

TEST_F(Stop, ASignalWhileARunIsLoadedLeavesOneToTakeUp) {
  ASSERT_EQ(runs_.train("whole"), 0);
  for (const int signal : kSignals) {
    const std::string name = fmt::format("run-{}", signal);
    watch_stop_signals();
    std::raise(signal);
    EXPECT_EQ(runs_.train(name), 128 + signal);
    const auto result = runs_.result(name);
    EXPECT_EQ(result.at("status"), "stopped");
    EXPECT_EQ(result.at("end_reason"), "signal");
    EXPECT_EQ(result.at("exit_code"), 128 + signal);
    EXPECT_EQ(result.at("step"), 0);
    EXPECT_EQ(result.at("checkpoint"), nullptr);
  }
  watch_stop_signals();
  ASSERT_EQ(runs_.train(fmt::format("run-{}", SIGTERM), {"--resume=auto"}), 0);
  EXPECT_TRUE(runs_.same_tensors(fmt::format("run-{}", SIGTERM), 8, "whole", 8));
}

TEST_F(Stop, ASignalWhileAResumedRunIsLoadedLosesNothing) {
  ASSERT_EQ(runs_.train("run", {"--stop-at-step=4"}), 0);
  watch_stop_signals();
  std::raise(SIGUSR1);
  EXPECT_EQ(runs_.train("run", {"--resume"}), 128 + SIGUSR1);
  EXPECT_EQ(runs_.result("run").at("step"), 4);
  EXPECT_EQ(runs_.result("run").at("checkpoint"), "checkpoints/step-00000004");
  watch_stop_signals();
  EXPECT_EQ(runs_.train("run", {"--resume"}), 0);
  EXPECT_EQ(runs_.lines("run", "train/loss").size(), 8u);
}

// The moments of a run at which a signal comes, and the step that is whole then.
struct Moment {
  const char* name;
  const char* operation;
  int time;  // how often that operation has run by then
  std::int64_t step;
};

// An embedding is read once in a micro-step; a step of two has read its second before it is asked
// again. A validation has two batches here. The cache is read while text is sampled.
constexpr Moment kMoments[] = {{"first step", "embedding_backward", 1, 0},
                               {"first micro-step", "embedding_backward", 5, 2},
                               {"second micro-step", "embedding_backward", 6, 3},
                               {"update", "adamw_update", 3, 3},
                               {"sample", "attention_cached", 20, 4},
                               {"validation", "cross_entropy", 13, 6}};

TEST_F(Stop, ASignalInAnyPhaseSavesTheLastWholeStep) {
  const std::vector<std::string> args = {"--sample-every=4", "--val-every=6", "--val-tokens=128"};
  ASSERT_EQ(runs_.train("whole", args), 0);
  int number = 0;
  for (const Moment& moment : kMoments) {
    const int signal = kSignals[number++ % std::ssize(kSignals)];
    SCOPED_TRACE(fmt::format("signal {}, {}", signal, moment.name));
    const std::string name = fmt::format("run-{}", number);
    const int code = runs_.train_observed(name, args, [&](Backend&) {
      return std::make_unique<AtOperation>(moment.operation, std::set{moment.time},
                                           [&](const auto&) { std::raise(signal); });
    });
    EXPECT_EQ(code, 128 + signal);
    const auto result = runs_.result(name);
    EXPECT_EQ(result.at("status"), "stopped");
    EXPECT_EQ(result.at("exit_code"), 128 + signal);
    EXPECT_EQ(result.at("step"), moment.step);
    EXPECT_EQ(result.at("checkpoint").is_null(), moment.step == 0);
    if (moment.step > 0) {
      EXPECT_EQ(result.at("checkpoint"), fmt::format("checkpoints/step-{:08}", moment.step));
    }
    EXPECT_EQ(std::filesystem::exists(runs_.path(name, "checkpoints")), moment.step > 0);
    EXPECT_EQ(std::ssize(runs_.lines(name, "train/loss")), moment.step);
    EXPECT_EQ(runs_.lines(name, "val/loss").size(), 0u);
    watch_stop_signals();
    ASSERT_EQ(runs_.train(name, {"--resume=auto"}), 0);
    EXPECT_TRUE(runs_.same_tensors(name, 8, "whole", 8));
  }
}

// The program itself; timeout(1) sends a signal to it and then to its group.
TEST_F(Stop, TheProgramEndsWithTheCodeOfWhatStoppedIt) {
  const auto run = [&](const std::vector<std::string>& before, const std::string& more) {
    std::vector<std::string> arguments = before;
    for (const std::string& argument : lathe_arguments(
             "train --layers 1 --heads 2 --channels 16 --context 16 --steps 10000000 --val-every 0 "
             "--quiet --out " +
             runs_.path("program") + " " + more)) {
      arguments.push_back(argument);
    }
    return run_process({.arguments = arguments, .folder = "/"}).exit_code;
  };
  EXPECT_EQ(run({"/usr/bin/timeout", "--preserve-status", "-s", "USR1", "0.3"}, ""), 128 + SIGUSR1);
  EXPECT_EQ(runs_.result("program").at("end_reason"), "signal");
  const auto step = runs_.result("program").at("step").get<std::int64_t>();
  EXPECT_EQ(run({}, "--resume=auto --max-time 0.3s"), 124);
  EXPECT_EQ(runs_.result("program").at("end_reason"), "max_time");
  EXPECT_GT(runs_.result("program").at("step"), step);
}

TEST(StopSignalDeathTest, ASecondSignalQuitsAtOnce) {
  const auto signal_twice = [](useconds_t pause) {
    watch_stop_signals();
    std::raise(SIGTERM);
    usleep(pause);
    std::raise(SIGINT);
    _exit(stop_exit_code());
  };
  EXPECT_EXIT(signal_twice(550'000), testing::ExitedWithCode(128 + SIGINT), "");
  EXPECT_EXIT(signal_twice(0), testing::ExitedWithCode(128 + SIGTERM), "");
}

}  // namespace
}  // namespace lathe::test
