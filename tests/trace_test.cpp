// Traces: what a run shows of itself is JSON in Chrome's format, nests, leaves little of a step's
// time unexplained, and costs neither a bit nor a run.
#include "lathe/trace.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "lathe/commands.h"
#include "lathe/error.h"
#include "lathe/files.h"
#include "lathe/stop_signal.h"
#include "support/error_of.h"
#include "support/json.h"
#include "support/small_run.h"
#include "support/thread_ranks.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

const char* const kText = "How much wood would a woodchuck chuck if a woodchuck could chuck wood? ";

std::string text() {
  std::string all;
  for (int i = 0; i < 200; ++i) all += kText;
  return all;
}

json parsed(const Trace::Text& rank) {
  return test::parse_json("[" + rank.events + "]");
}

// A span of a trace, in nanoseconds.
struct Shown {
  int rank, row;
  std::string name, category;
  json arguments;
  std::int64_t start, end;

  bool operator==(const Shown&) const = default;
  bool holds(const Shown& other) const { return other.start >= start && other.end <= end; }
};

std::vector<Shown> spans(const json& events) {
  const auto nanoseconds = [](const json& microseconds) {
    return std::llround(1000 * microseconds.get<double>());
  };
  std::vector<Shown> spans;
  for (const json& event : events) {
    if (event.at("ph") != "X") continue;
    const std::int64_t start = nanoseconds(event.at("ts"));
    spans.push_back({event.at("pid"), event.at("tid"), event.at("name"), event.at("cat"),
                     event.at("args"), start, start + nanoseconds(event.at("dur"))});
  }
  return spans;
}

std::vector<Shown> of_name(const std::vector<Shown>& all, const std::string& name) {
  std::vector<Shown> found;
  std::ranges::copy_if(all, std::back_inserter(found),
                       [&](const Shown& span) { return span.name == name; });
  return found;
}

std::map<int, std::string> row_names(const json& events) {
  std::map<int, std::string> names;
  for (const json& event : events) {
    if (event.at("name") == "thread_name") names[event.at("tid")] = event.at("args").at("name");
  }
  return names;
}

// Whether of two spans of a row one holds the other, or they do not meet.
void expect_nested(const std::vector<Shown>& spans) {
  std::map<int, std::vector<Shown>> open;
  for (const Shown& span : spans) {
    std::vector<Shown>& stack = open[span.row];
    while (!stack.empty() && stack.back().end <= span.start) stack.pop_back();
    if (!stack.empty()) {
      EXPECT_TRUE(stack.back().holds(span)) << span.name << " in " << stack.back().name;
    }
    stack.push_back(span);
  }
}

TEST(Trace, ShowsSpansByThread) {
  Trace trace(/*rank=*/3);
  { const Trace::Span before(&trace, "before", "step"); }
  trace.start();
  {
    const Trace::Span outer(&trace, "outer", "step", {"step", 7});
    std::thread([&trace] { const Trace::Span other(&trace, "other", "saving"); }).join();
    const Trace::Span inner(&trace, "inner", "step");
  }
  const Trace::Span nowhere(nullptr, "nowhere", "step");
  const auto now = std::chrono::steady_clock::now();
  trace.record({"all_gather", "communication", {"bytes", 12}, now, now}, "communication");
  const json events = parsed(trace.finish(trace.started()));
  const std::vector<Shown> all = spans(events);
  ASSERT_EQ(all.size(), 4u);
  EXPECT_EQ(all[0].name, "outer");
  EXPECT_EQ(all[0].arguments, json({{"step", 7}}));
  EXPECT_EQ(all[1].name, "other");
  EXPECT_EQ(all[2].name, "inner");
  EXPECT_EQ(all[0].row, all[2].row);
  EXPECT_NE(all[0].row, all[1].row);
  EXPECT_TRUE(all[0].holds(all[2]));
  EXPECT_GE(all[0].start, 0);
  EXPECT_EQ(row_names(events).at(all[0].row), "training");
  EXPECT_EQ(row_names(events).at(all[3].row), "communication");
  for (const Shown& span : all) EXPECT_EQ(span.rank, 3);
}

TEST(Trace, EndsWhatIsOpenAndBoundsItsMemory) {
  Trace trace(/*rank=*/0, /*most_events=*/2);
  trace.start();
  std::optional<Trace::Span> open(std::in_place, &trace, "open", "saving");
  EXPECT_FALSE(trace.is_full());
  { const Trace::Span second(&trace, "second", "step"); }
  EXPECT_TRUE(trace.is_full());
  { const Trace::Span third(&trace, "third", "step"); }
  const Trace::Text text = trace.finish(trace.started());
  open.reset();  // after the end
  EXPECT_EQ(text.count, 2u);
  EXPECT_EQ(text.left_out, 1u);
  const std::vector<Shown> all = spans(parsed(text));
  EXPECT_EQ(all.at(0).arguments, json({{"unfinished", true}}));
  EXPECT_GE(all.at(0).end, all.at(1).end);
  EXPECT_EQ(all.at(1).arguments, json::object());
}

// Ranks have clocks of their own; the system's time joins them.
TEST(Trace, JoinsRanks) {
  Trace first(/*rank=*/0), second(/*rank=*/1);
  first.start();
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  second.start();
  { const Trace::Span early(&first, "early", "step"); }
  std::this_thread::sleep_for(std::chrono::milliseconds(1));
  { const Trace::Span late(&second, "late", "step"); }
  const Trace::Text ranks[] = {first.finish(first.started()), second.finish(first.started())};
  const test::TempDir folder;
  write_trace(folder / "trace.json", ranks);
  const json file = test::parse_json(test::read_file(folder / "trace.json"));
  const std::vector<Shown> all = spans(file.at("traceEvents"));
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0].rank, 0);
  EXPECT_EQ(all[1].rank, 1);
  EXPECT_GT(all[0].start, 15'000'000);
  EXPECT_GT(all[1].start, all[0].end);
}

class TraceOfRun : public testing::Test {
 protected:
  std::vector<Shown> trace(const std::string& name) const {
    return spans(test::parse_json(test::read_file(file(name))).at("traceEvents"));
  }
  std::string file(const std::string& name) const { return runs_.path(".", name); }

  std::set<int> steps(const std::string& name) const {
    std::set<int> numbers;
    for (const Shown& step : of_name(trace(name), "step"))
      numbers.insert(int{step.arguments["step"]});
    return numbers;
  }

  test::SmallRuns runs_{text()};
};

TEST_F(TraceOfRun, NestsAndNamesWhatItShows) {
  ASSERT_EQ(runs_.train("run", {"--trace", file("t.json"), "--profile-steps=3:5", "--layers=2",
                                "--val-every=4", "--checkpoint-every=2", "--sample-every=5"}),
            0);
  EXPECT_EQ(steps("t.json"), (std::set<int>{3, 4, 5}));
  const std::vector<Shown> all = trace("t.json");
  expect_nested(all);
  std::set<int> layers;
  for (const Shown& operation : of_name(all, "attention_backward")) {
    EXPECT_EQ(operation.category, "operation");
    layers.insert(int{operation.arguments.at("layer")});
  }
  EXPECT_EQ(layers, (std::set<int>{0, 1}));
  EXPECT_EQ(of_name(all, "attention_backward").size(), 3u * 2 * 2);  // steps, micro-steps, layers
  EXPECT_FALSE(of_name(all, "adamw_update").front().arguments.contains("layer"));
  EXPECT_EQ(of_name(all, "micro_step").size(), 6u);
  EXPECT_EQ(of_name(all, "update").size(), 3u);
  EXPECT_EQ(of_name(all, "validate").size(), 1u);
  EXPECT_EQ(of_name(all, "sample").size(), 1u);
}

// All ranks in one file, each with a row for what it sends: gradients of a block while those of the
// blocks before it are still computed.
TEST_F(TraceOfRun, ShowsCommunicationBesideTheBackwardPass) {
  constexpr int kRanks = 4;
  const Options options = runs_.options(
      "run", {"--trace", file("t.json"), "--profile-steps=2:4", "--layers=4", "--channels=64",
              "--batch-tokens=128", "--micro-batch=1", "--steps=6", "--device=cpu"});
  const StopSignalWatch watch;
  test::run_ranks(kRanks, [&](Communicator& communicator) {
    EXPECT_EQ(train_as_rank(options, communicator), 0);
  });
  const std::vector<Shown> all = trace("t.json");
  int overlapping = 0;
  std::int64_t bytes = 0;
  for (const Shown& sent : of_name(all, "reduce_scatter")) {
    EXPECT_EQ(sent.category, "communication");
    bytes += sent.arguments.at("bytes").get<int>();
    for (const Shown& other : all) {
      const bool is_backward =
          other.category == "operation" && other.name.find("backward") != std::string::npos;
      if (!is_backward || other.rank != sent.rank) continue;
      EXPECT_NE(other.row, sent.row);
      if (other.start < sent.end && sent.start < other.end) ++overlapping;
    }
  }
  EXPECT_GT(overlapping, 0);
  ModelConfig config = model_config(options);
  config.vocab = 256;
  EXPECT_EQ(bytes, 3 * kRanks * 4 * parameter_memory_count(parameter_specs(config)));  // steps
  for (const char* name : {"all_gather", "sum"}) {
    std::set<int> ranks;
    for (const Shown& sent : of_name(all, name)) ranks.insert(sent.rank);
    EXPECT_EQ(ranks, (std::set<int>{0, 1, 2, 3})) << name;
  }
}

// What has no operation, batch or wait to it is the time between operations.
TEST_F(TraceOfRun, LeavesLittleOfAStepUnexplained) {
  ASSERT_EQ(
      runs_.train("run", {"--trace", file("t.json"), "--profile-steps=3:7", "--channels=64",
                          "--layers=2", "--context=128", "--seq-len=64", "--batch-tokens=512"}),
      0);
  const std::vector<Shown> all = trace("t.json");
  std::int64_t inside = 0, whole = 0;
  for (const Shown& step : of_name(all, "step")) {
    whole += step.end - step.start;
    for (const Shown& span : all) {
      const bool is_leaf = span.category == "operation" || span.name == "next_batch" ||
                           span.name == "wait_until_read";
      if (is_leaf && step.holds(span)) inside += span.end - span.start;
    }
  }
  EXPECT_GT(static_cast<double>(inside), 0.9 * static_cast<double>(whole));
  EXPECT_LE(inside, whole);
}

TEST_F(TraceOfRun, ShowsSavingBesideTheStep) {
  ASSERT_EQ(runs_.train("run", {"--trace", file("t.json"), "--profile-steps=2:6",
                                "--checkpoint-every=1", "--channels=64"}),
            0);
  const json events = test::parse_json(test::read_file(file("t.json"))).at("traceEvents");
  const std::map<int, std::string> rows = row_names(events);
  const std::vector<Shown> all = spans(events);
  bool is_beside = false;
  int saves = 0;
  for (const Shown& save : all) {
    if (save.name != "save" || rows.at(save.row) != "saving") continue;
    ++saves;
    for (const Shown& step : of_name(all, "step")) {
      is_beside |= save.start < step.end && step.start < save.end;
    }
  }
  EXPECT_GE(saves, 3);
  EXPECT_TRUE(is_beside);
}

TEST_F(TraceOfRun, ChangesNoBit) {
  ASSERT_EQ(runs_.train("plain"), 0);
  ASSERT_EQ(runs_.train("traced", {"--trace", file("t.json")}), 0);
  EXPECT_TRUE(runs_.same_tensors("plain", 8, "traced", 8));
  EXPECT_EQ(steps("t.json"), (std::set<int>{1, 2, 3, 4, 5, 6, 7, 8}));
}

TEST_F(TraceOfRun, OfAResumedRunShowsItsOwnSteps) {
  ASSERT_EQ(runs_.train("run", {"--stop-at-step=4", "--trace", file("t.json")}), 0);
  EXPECT_EQ(steps("t.json"), (std::set<int>{1, 2, 3, 4}));
  ASSERT_EQ(runs_.train("run", {"--resume", "--stop-at-step=7", "--trace", file("t.json")}), 0);
  EXPECT_EQ(steps("t.json"), (std::set<int>{5, 6, 7}));
  // Steps that are behind it leave the trace that there is, and a word.
  ASSERT_EQ(runs_.train("run", {"--resume", "--trace", file("t.json"), "--profile-steps=2:3"}), 0);
  EXPECT_EQ(steps("t.json"), (std::set<int>{5, 6, 7}));
  EXPECT_NE(runs_.file("run", "log.txt").find("made none of the steps 2 to 3"), std::string::npos);
}

TEST_F(TraceOfRun, MayLieInTheRunFolder) {
  ASSERT_EQ(runs_.train("run", {"--trace", runs_.path("run", "trace.json")}), 0);
  EXPECT_FALSE(test::parse_json(runs_.file("run", "trace.json")).at("traceEvents").empty());
}

TEST_F(TraceOfRun, IsRefusedBeforeTheRunWhereItCannotBeWritten) {
  const auto refusal = [&](const std::string& path) {
    return test::error_of([&] { runs_.train("run", {"--trace", path}); });
  };
  EXPECT_EQ(refusal(file("none/t.json")).substr(0, 15), "exit 6: --trace");
  EXPECT_EQ(refusal("/proc/t.json").substr(0, 28), "exit 6: --trace /proc/t.json");
  EXPECT_EQ(refusal(file("")),
            "exit 2: --trace " + file("") + ": is no file; give the name of one");
  EXPECT_EQ(refusal(file("text.txt")), "exit 2: --trace " + file("text.txt") +
                                           ": is there and holds no trace; give another name");
  EXPECT_FALSE(fs::exists(runs_.path("run")));
  EXPECT_TRUE(test::read_file(file("text.txt")) == text());
}

// A run is worth more than its trace.
TEST_F(TraceOfRun, ThatIsLostIsNoLossToTheRun) {
  fs::create_directory(file("gone"));
  const auto remove_folder = [&](Backend&) {
    return std::make_unique<test::AtOperation>("adamw_update", std::set<int>{3},
                                               [&](const auto&) { fs::remove(file("gone")); });
  };
  ASSERT_EQ(runs_.train_observed("run", {"--trace", file("gone/t.json")}, remove_folder), 0);
  EXPECT_EQ(runs_.result("run").at("status"), "finished");
  EXPECT_NE(runs_.file("run", "log.txt").find("there is no trace"), std::string::npos);
}

}  // namespace
}  // namespace lathe
