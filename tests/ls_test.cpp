// lathe ls: what it says of runs in every state, with damaged files too, and that its table, CSV
// and JSON can be relied on.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "commands/run_table.h"
#include "lathe/error.h"
#include "lathe/folder_lock.h"
#include "run/session_facts.h"
#include "support/error_of.h"
#include "support/json.h"
#include "support/process.h"
#include "support/temp_dir.h"

namespace lathe::test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using nlohmann::ordered_json;
using std::chrono_literals::operator""us;

constexpr const char* kMetrics =
    "{\"step\":1,\"train/loss\":5.5,\"perf/tokens_per_second\":100.0}\n"
    "{\"step\":1,\"val/loss\":5.25}\n"
    "{\"step\":2,\"train/loss\":5.0,\"perf/tokens_per_second\":200.0}\n"
    "{\"step\":2,\"val/loss\":4.5}\n"
    "{\"step\":2,\"event\":\"resume\"}\n"
    "{\"step\":3,\"val/loss\":4.75}\n"
    "{\"step\":3,\"val/task/acc\":0.5}\n"
    "{\"step\":3,\"train/loss\":null,\"perf/tokens_per_second\":300.0}\n";

class Ls : public testing::Test {
 protected:
  std::string write_run(const std::string& name, const std::string& config,
                        const std::string& result = "") const {
    dir_.write(name + "/config.toml", config);
    dir_.write(name + "/metrics.jsonl", kMetrics);
    if (!result.empty()) dir_.write(name + "/result.json", result);
    return dir_ / name;
  }
  ProcessResult ls(const std::string& words) const {
    return run_process({.arguments = lathe_arguments("ls " + words), .folder = dir_.path()});
  }

  TempDir dir_;
};

std::string result_of(const std::string& status, const std::string& more = "") {
  return fmt::format(R"({{"status":"{}","exit_code":0,"step":9,"steps":10,"train_loss":1.5{}}})",
                     status, more);
}

ordered_json status_of(const std::string& run) {
  return summarize_run(run).facts.at("status");
}

TEST_F(Ls, TellsARunThatRunsFromOneThatWasKilled) {
  for (const char* ended : {"finished", "stopped", "failed"}) {
    EXPECT_EQ(status_of(write_run(ended, "", result_of(ended))), ended);
  }
  const std::string here = fmt::format(R"(,"hostname":"{}")", host_name());
  const std::string run = write_run("run", "", result_of("running", here));
  EXPECT_EQ(status_of(run), "killed");
  EXPECT_EQ(status_of(write_run("far", "", result_of("running", R"(,"hostname":"far/away")"))),
            "unknown");
  EXPECT_EQ(status_of(write_run("none", "")), "killed");
  {
    const FolderLock lock(run);
    EXPECT_EQ(status_of(run), "running");
  }
  EXPECT_EQ(status_of(run), "killed");
  // Between two sessions what the last one said stands; in the next one no longer.
  const std::string stopped = write_run("again", "", result_of("stopped"));
  const FolderLock lock(stopped);
  EXPECT_EQ(status_of(stopped), "running");
  EXPECT_TRUE(summarize_run(stopped).facts.at("exit_code").is_null());
}

// Sessions begin and end while the folder is looked at; none of them is killed. One that does both
// during one look may pass for that, so such a look counts for nothing. Large files make the
// moments between the parts of a look long.
TEST_F(Ls, NoRunThatEndsOrBeginsMeanwhilePassesForKilled) {
  constexpr std::chrono::milliseconds kLong{700};
  const std::string much(100000, 'x');
  const std::string run = write_run("run", '#' + much + '\n', result_of("finished"));
  const auto say = [&](const std::string& status) {
    dir_.write("run/next", result_of(status, R"(,"x":")" + much + '"'));
    fs::rename(run + "/next", run + "/result.json");
  };
  std::atomic<int> begun = 0, ended = 0, looks = 0;
  std::atomic<bool> is_over = false;
  std::thread trains([&] {
    for (std::chrono::microseconds moment{0}; !is_over; moment = (moment * 7 + 31us) % 1009) {
      const int last = looks;
      std::this_thread::sleep_for(moment);
      try {
        const FolderLock lock(run);
        ++begun;
        say("running");
        std::this_thread::sleep_for(moment);
        say("finished");
        ++ended;
      } catch (const Error&) {
        std::this_thread::yield();  // a look that was held up itself has shared the lock for long
      }
      while (looks == last && !is_over) std::this_thread::yield();
    }
  });
  const auto end = std::chrono::steady_clock::now() + kLong;
  for (; std::chrono::steady_clock::now() < end; ++looks) {
    const int begun_before = begun, ended_before = ended;
    const ordered_json status = status_of(run);
    if (begun == begun_before || ended == ended_before) {
      EXPECT_NE(status, "killed");
    }
  }
  is_over = true;
  trains.join();
  EXPECT_GT(ended, 0);
}

TEST_F(Ls, ARunThatHasNotEndedIsWhereItsMetricsAre) {
  const std::string run = write_run(
      "run", "",
      result_of("running",
                R"(,"best_val_loss":null,"wall_seconds":50,"started":"2026-11-25T04:43:00Z")"));
  const std::chrono::sys_seconds five{std::chrono::seconds(1795582800)};  // 05:00:00 of that day
  fs::last_write_time(run + "/metrics.jsonl", std::chrono::file_clock::from_sys(five));
  const ordered_json facts = summarize_run(run).facts;
  EXPECT_EQ(facts.at("step"), 3);
  EXPECT_EQ(facts.at("steps"), 10);
  EXPECT_TRUE(facts.at("train_loss").is_null());
  EXPECT_EQ(facts.at("tokens_per_second"), 300);
  EXPECT_EQ(facts.at("val_loss"), 4.75);
  EXPECT_EQ(facts.at("best_val_loss"), 4.5);
  EXPECT_EQ(facts.at("best_val_step"), 2);
  EXPECT_EQ(facts.at("wall_seconds"), 50 + 17 * 60);
  // One that has ended knows it itself.
  EXPECT_EQ(summarize_run(write_run("end", "", result_of("stopped"))).facts.at("step"), 9);
}

TEST_F(Ls, OptionsKeepTheirTypes) {
  const RunSummary run = summarize_run(write_run(
      "run", "seed = 7\nlr = 3e-4\nshuffle = false\ntrain = [\"a b\", \"c\"]\nmodel = \"gpt2\"\n"));
  EXPECT_EQ(run.options.dump(),
            R"({"train":["a b","c"],"model":"gpt2","lr":0.0003,"seed":7,"shuffle":false})");
  EXPECT_TRUE(run.problems.empty());
}

TEST_F(Ls, WhatIsDamagedIsToldAndTheRestShown) {
  const std::string run = write_run("run", "lr = = 1\n", "{");
  dir_.write("run/metrics.jsonl", std::string(kMetrics) + "{\"step\":4,\"train/loss\"\n");
  const RunSummary summary = summarize_run(run);
  EXPECT_EQ(summary.facts.at("status"), "killed");
  ASSERT_EQ(summary.problems.size(), 3u);
  EXPECT_EQ(summary.problems[1], run + "/result.json: not valid JSON at byte 2");
  write_run("good", "lr = 1.0\n", result_of("finished"));
  const ProcessResult listed = ls(". --csv --columns lr,step");
  EXPECT_EQ(listed.exit_code, 0);
  EXPECT_EQ(listed.out, "name,status,lr,step\r\ngood,finished,1,9\r\nrun,killed,,\r\n");
  EXPECT_EQ(std::ranges::count(listed.err, '\n'), 3) << listed.err;
  // The end that a kill cut short is nothing to tell.
  dir_.write("run/metrics.jsonl", std::string(kMetrics) + "{\"step\":4,\"train/loss\"");
  EXPECT_EQ(summarize_run(run).problems.size(), 2u);
  // A damaged line does not take the others with it, and is told once.
  dir_.write("run/metrics.jsonl", "{\"val/loss\":1}\n{\"val/loss\":\n" + std::string(kMetrics));
  EXPECT_EQ(summarize_run(run).problems.size(), 3u);
  EXPECT_EQ(summarize_run(run).facts.at("best_val_loss"), 4.5);
  EXPECT_EQ(summarize_run(run).facts.at("step"), 3);
}

TEST_F(Ls, WhatIsToldIsOneReadableLine) {
  write_run("a\nb", "", R"({"step":1,"step":2})");
  EXPECT_EQ(ls(".").err, "lathe: ./a\\u000ab/result.json: key \"step\" stands twice\n");
}

// What is no run's file is not read into memory: 8 GiB that a file system makes of nothing.
TEST_F(Ls, FilesMuchTooLargeAreToldAndTheRestShown) {
  constexpr std::uintmax_t kBytes = std::uintmax_t{8} << 30;
  const std::string run = write_run("run", "lr = 1.0\n", "{}");
  std::error_code error;
  for (const char* name : {"/result.json", "/metrics.jsonl"}) {
    fs::resize_file(run + name, kBytes, error);
    if (error) GTEST_SKIP() << "no sparse files of 8 GiB here: " << error.message();
  }
  const RunSummary summary = summarize_run(run);
  ASSERT_EQ(summary.problems.size(), 2u);
  EXPECT_EQ(summary.problems[0], run +
                                     "/result.json: is of 8589934592 bytes; at most 1048576 are "
                                     "read of such a file");
  EXPECT_EQ(summary.facts.at("status"), "killed");
  EXPECT_EQ(summary.options.at("lr"), 1);
}

RunSummary summary(const std::string& name, const std::string& facts, const std::string& options) {
  return {.name = name,
          .path = "/runs/" + name,
          .facts = ordered_json::parse(facts),
          .options = ordered_json::parse(options),
          .problems = {}};
}

std::vector<RunSummary> three_runs() {
  return {summary("lr1-s1",
                  R"({"status":"finished","step":20,"steps":20,"train_loss":1.5,"val_loss":1.25,
                      "best_val_loss":1.25,"best_val_step":20,"tokens_per_second":1200000.5,
                      "wall_seconds":3700,"seed":1})",
                  R"({"lr":0.001,"seed":1,"steps":20,"model":"tiny"})"),
          summary("lr1-s2", R"({"status":"running","step":7,"steps":100,"train_loss":null})",
                  R"({"lr":0.0001,"seed":2,"steps":100,"model":"tiny"})"),
          summary("x", R"({"status":"killed"})", "{}")};
}

TEST(RunTable, ShowsWhatDiffersAndAlignsNumbers) {
  EXPECT_EQ(runs_text(three_runs(), {}),
            "name    status     step      lr  seed  train_loss  val_loss  best_val_loss  "
            "best_val_step  tokens/s   wall\n"
            "lr1-s1  finished  20/20   0.001     1      1.5000    1.2500         1.2500  "
            "           20      1.2M  1h01m\n"
            "lr1-s2  running   7/100  0.0001     2           -         -              -  "
            "            -         -      -\n"
            "x       killed        -       -     -           -         -              -  "
            "            -         -      -\n");
  EXPECT_EQ(runs_text({}, {}), "");
}

// However narrow the terminal is, and however long the names are.
TEST(RunTable, FitsEveryWidth) {
  for (const std::size_t length : {1, 20, 300}) {
    std::vector<RunSummary> runs = three_runs();
    runs[1].name = std::string(length, 'n') + "-end";
    for (std::size_t width = 20; width < 150; ++width) {
      for (const std::vector<std::string>& columns :
           {std::vector<std::string>{}, {"lr", "seed", "model"}}) {
        const std::string text =
            runs_text(runs, {.columns = columns, .sort = "", .reverse = false, .width = width});
        std::istringstream lines(text);
        std::string line;
        int count = 0;
        for (; std::getline(lines, line); ++count) {
          EXPECT_LE(line.size(), std::max<std::size_t>(width, 40)) << text;
        }
        EXPECT_GE(count, 4) << text;
        EXPECT_NE(text.find("-end"), text.npos) << text;
      }
    }
  }
  const std::string narrow =
      runs_text(three_runs(), {.columns = {"seed"}, .sort = "lr", .reverse = false, .width = 46});
  EXPECT_TRUE(narrow.starts_with("name    status    seed  best_val_loss      lr\n")) << narrow;
  EXPECT_NE(narrow.find("more columns: --csv, --json\n"), narrow.npos) << narrow;
}

std::string order(const std::string& column, bool reverse) {
  std::vector<RunSummary> runs = three_runs();
  runs.push_back(summary("y", R"({"status":"failed","step":10})", R"({"lr":0.01,"model":"gpt2"})"));
  sort_runs(runs, {.columns = {}, .sort = column, .reverse = reverse, .width = 0});
  std::string names;
  for (const RunSummary& run : runs) names += run.name + " ";
  return names;
}

TEST(RunTable, SortsByAnyColumnWithUnknownValuesLast) {
  EXPECT_EQ(order("step", false), "lr1-s2 y lr1-s1 x ");
  EXPECT_EQ(order("step", true), "lr1-s1 y lr1-s2 x ");
  EXPECT_EQ(order("lr", false), "lr1-s2 lr1-s1 y x ");
  EXPECT_EQ(order("model", false), "y lr1-s1 lr1-s2 x ");
  EXPECT_EQ(order("status", true), "lr1-s2 x lr1-s1 y ");
  EXPECT_EQ(order("name", false), "lr1-s1 lr1-s2 x y ");
  EXPECT_EQ(order("", true), "y x lr1-s2 lr1-s1 ");
  EXPECT_EQ(error_of([] { order("best_val_los", false); }),
            "exit 2: --sort best_val_los: no run has it; did you mean best_val_loss?");
  EXPECT_EQ(error_of([] {
              std::vector<RunSummary> runs = three_runs();
              sort_runs(runs, {.columns = {"lr", "q\n"}, .sort = "", .reverse = false, .width = 0});
            }),
            "exit 2: --columns q\\n: no run has it; lathe ls --csv shows all columns");
}

// By RFC 4180: records end with CRLF, a quoted field may hold anything, "" in it is a quotation
// mark.
std::vector<std::vector<std::string>> parse_csv(const std::string& text) {
  std::vector<std::vector<std::string>> rows(1, std::vector<std::string>(1));
  bool is_quoted = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    std::string& field = rows.back().back();
    if (is_quoted) {
      const bool is_mark = text[i] == '"';
      if (is_mark && text[i + 1] == '"') field += text[i++];
      if (is_mark && text[i] == '"' && text[i - 1] != '"') is_quoted = false;
      if (!is_mark) field += text[i];
    } else if (text[i] == '"') {
      is_quoted = true;
    } else if (text[i] == ',') {
      rows.back().emplace_back();
    } else if (text.compare(i, 2, "\r\n") == 0) {
      rows.emplace_back(1);
      ++i;
    } else {
      field += text[i];
    }
  }
  rows.pop_back();
  return rows;
}

TEST(RunTable, CsvComesBackAsItWas) {
  std::vector<RunSummary> runs = three_runs();
  const std::string odd = "a,b\r\n\"c\" ü;";
  runs[1].name = odd;
  runs[1].options["train"] = {"one", "t,wo"};
  const auto rows = parse_csv(runs_csv(runs, {}));
  ASSERT_EQ(rows.size(), 4u);
  for (const auto& row : rows) EXPECT_EQ(row.size(), rows[0].size());
  const auto at = [&](std::size_t row, const std::string& column) {
    return rows[row].at(
        static_cast<std::size_t>(std::ranges::find(rows[0], column) - rows[0].begin()));
  };
  EXPECT_EQ(at(2, "name"), odd);
  EXPECT_EQ(at(2, "train"), "one t,wo");
  EXPECT_EQ(at(1, "tokens_per_second"), "1200000.5");
  EXPECT_EQ(at(2, "lr"), "0.0001");
  EXPECT_EQ(at(2, "train_loss"), "");
  EXPECT_EQ(at(3, "lr"), "");
  EXPECT_EQ(std::ranges::count(rows[0], "seed"), 1);
}

TEST(RunTable, JsonHasEverything) {
  const json runs = parse_json(runs_json(three_runs()));
  ASSERT_EQ(runs.size(), 3u);
  EXPECT_EQ(runs[0].at("path"), "/runs/lr1-s1");
  EXPECT_EQ(runs[0].at("seed"), 1);
  EXPECT_EQ(runs[1].at("options").at("lr"), 0.0001);
  EXPECT_EQ(parse_json(runs_json({})), json::array());
  const std::string odd = R"({"status":"failed","name":5,"path":[1],"options":"none"})";
  const json run = parse_json(runs_json({summary("odd", odd, R"({"lr":1})")})).at(0);
  EXPECT_EQ(run.at("name"), "odd");
  EXPECT_EQ(run.at("path"), "/runs/odd");
  EXPECT_EQ(run.at("options"), parse_json(R"({"lr":1})"));
}

TEST(RunTable, NoDamagedValueFillsALine) {
  constexpr std::size_t kMostWidth = 250;
  const std::string facts = R"({"status":"failed","step":[")" + std::string(999, 's') +
                            R"("],"steps":18446744073709551615,"train_loss":1e300,
                               "tokens_per_second":-1e300,"wall_seconds":1e300})";
  const std::string text = runs_text({summary("odd", facts, "{}")}, {});
  EXPECT_LT(text.find('\n'), kMostWidth) << text;
  EXPECT_NE(text.find("  1e+300"), text.npos) << text;
  EXPECT_NE(text.find("  -1e+300"), text.npos) << text;
}

TEST_F(Ls, FindsRunsInFoldersAndBelowThem) {
  write_run("runs/b", "lr = 1.0\n", result_of("finished"));
  write_run("runs/sweep/a", "lr = 2.0\n", result_of("failed"));
  write_run("runs/.hidden", "", result_of("failed"));
  write_run("runs/b/checkpoints/inner", "", result_of("failed"));
  fs::create_directory_symlink(dir_ / "runs", dir_ / "runs/sweep/loop");
  const std::string both = "name,status,lr\r\nb,finished,1\r\nsweep/a,failed,2\r\n";
  EXPECT_EQ(ls("--csv --columns lr").out, both);
  EXPECT_EQ(ls("runs/ --csv --columns lr").out, both);
  EXPECT_EQ(ls("runs/b/ ./runs/sweep --csv --columns lr").out,
            "name,status,lr\r\nb,finished,1\r\na,failed,2\r\n");
  EXPECT_EQ(ls("runs/b runs/b --csv --columns lr").out,
            "name,status,lr\r\nruns/b,finished,1\r\nruns/b,finished,1\r\n");
  EXPECT_EQ(parse_json(ls("--json").out)[1].at("name"), "sweep/a");
  EXPECT_NE(ls("--sort lr --reverse").out.find("\nsweep/a  failed"), std::string::npos);
  // By the headings that the table has.
  write_run("runs/c", "", result_of("failed", R"(,"wall_seconds":9,"tokens_per_second":1)"));
  EXPECT_EQ(ls("runs --csv --sort wall --columns tokens/s").out,
            "name,status,tokens_per_second\r\nc,failed,1\r\nb,finished,\r\nsweep/a,failed,\r\n");
}

TEST_F(Ls, WhatIsNoRunIsSaid) {
  const ProcessResult none = ls("");
  EXPECT_EQ(none.exit_code, 3);
  EXPECT_EQ(none.err, "lathe: runs: is not a folder; give folders of runs, or runs\n");
  fs::create_directory(dir_ / "empty");
  const ProcessResult empty = ls("empty --json");
  EXPECT_EQ(empty.exit_code, 0);
  EXPECT_EQ(empty.out, "[]\n");
  EXPECT_EQ(empty.err, "lathe: empty: holds no run\n");
  EXPECT_EQ(ls("empty --json --csv").exit_code, 2);
}

}  // namespace
}  // namespace lathe::test
