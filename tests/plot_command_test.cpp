// What `lathe plot` reads and writes: curves of metrics.jsonl, the drawing, the page. How they look
// is tested in plot_test.cpp, and what the page does in a browser in plot_html_test.py.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>

#include "lathe/commands.h"
#include "lathe/error.h"
#include "lathe/files.h"
#include "lathe/plot.h"
#include "support/json.h"
#include "support/picture_files.h"
#include "support/temp_dir.h"

namespace lathe {
namespace {

using test::page_data;
using test::TempDir;
using test::xml_problem;

constexpr const char* kMetrics =
    "{\"step\":1,\"train/loss\":5.5,\"train/lr\":1e-3}\n"
    "{\"step\":2,\"train/loss\":null}\n"
    "{\"step\":2,\"val/loss\":4.25}\n"
    "{\"step\":3,\"train/loss\":4}\n";

TEST(ReadCurves, TakesTheFolderOrTheFile) {
  const TempDir folder;
  const std::string file = folder.write("metrics.jsonl", kMetrics);
  for (const std::string& path : {file, folder.path().string()}) {
    const std::vector<Curve> curves = read_curves(path);
    ASSERT_EQ(curves.size(), 2u);
    EXPECT_EQ(curves[0].x, (std::vector<double>{1, 2, 3}));
    EXPECT_EQ(curves[0].y[0], 5.5);
    EXPECT_TRUE(std::isnan(curves[0].y[1]));
    EXPECT_EQ(curves[0].mark, Curve::Mark::line);
    EXPECT_EQ(curves[1].x, std::vector<double>{2});
    EXPECT_EQ(curves[1].y, std::vector<double>{4.25});
    EXPECT_EQ(curves[1].mark, Curve::Mark::points);
  }
}

TEST(ReadCurves, IgnoresALastLineThatWasCutShort) {
  const TempDir folder;
  const std::string text = std::string(kMetrics) + "{\"step\":4,\"train/loss\":3}";
  for (std::size_t length = text.size() - 25; length <= text.size(); ++length) {
    const std::string file = folder.write("metrics.jsonl", text.substr(0, length));
    const std::size_t expected = length == text.size() ? 4 : 3;
    EXPECT_EQ(read_curves(file)[0].x.size(), expected) << length;
  }
  EXPECT_TRUE(read_curves(folder.write("empty.jsonl", "")).empty());
}

TEST(ReadCurves, TheFirstCurveHasTheResumes) {
  const TempDir folder;
  const std::string resume = "{\"step\":3,\"event\":\"resume\"}\n";
  const auto curves = read_curves(folder.write("metrics.jsonl", kMetrics + resume + resume));
  ASSERT_EQ(curves.size(), 2u);
  EXPECT_EQ(curves[0].x.size(), 3u);
  EXPECT_EQ(curves[0].resumes, (std::vector<double>{3, 3}));
  EXPECT_TRUE(curves[1].resumes.empty());
  const auto validated =
      read_curves(folder.write("metrics.jsonl", resume + "{\"step\":4,\"val/loss\":1}\n"
                                                         "{\"step\":5,\"event\":\"other\"}\n"));
  ASSERT_EQ(validated.size(), 1u);
  EXPECT_EQ(validated[0].resumes, std::vector<double>{3});
  EXPECT_TRUE(read_curves(folder.write("metrics.jsonl", resume)).empty());
}

void expect_data_error(const std::string& text, const std::string& part) {
  const TempDir folder;
  const std::string file = folder.write("metrics.jsonl", text);
  try {
    read_curves(file);
    ADD_FAILURE() << "accepted: " << text;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::data);
    EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find(file), std::string::npos) << error.what();
  }
}

TEST(ReadCurves, BadLinesAreNamed) {
  const std::string good = "{\"step\":1,\"train/loss\":5.5}\n";
  expect_data_error(good + "{\"step\":2,\"train/lo\n" + good, "line 2: not valid JSON");
  expect_data_error(good + good + "\n", "line 3");
  expect_data_error("[1]\n", "line 1: not a JSON object");
  expect_data_error("{\"train/loss\":1}\n", "line 1: has no \"step\"");
  expect_data_error("{\"step\":-1,\"train/loss\":1}\n", "line 1: has no \"step\"");
  expect_data_error("{\"step\":1.5,\"train/loss\":1}\n", "line 1: has no \"step\"");
  expect_data_error("{\"step\":1,\"val/loss\":\"x\"}\n", "\"val/loss\"");
  expect_data_error("{\"step\":1,\"step\":2}\n", "stands twice");
}

// plot_command of these options; its exit code, or that of the error with its message.
struct Outcome {
  int code;
  std::string out, err;
};

Outcome plot(std::vector<std::string> paths, std::string svg = "", std::string html = "") {
  Options options{};
  options.paths = std::move(paths);
  options.svg = std::move(svg);
  options.html = std::move(html);
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  Outcome outcome{};
  std::string message;
  try {
    outcome.code = plot_command(options);
  } catch (const Error& error) {
    outcome.code = static_cast<int>(error.code());
    message = error.what();
  }
  outcome.out = testing::internal::GetCapturedStdout();
  outcome.err = testing::internal::GetCapturedStderr() + message;
  return outcome;
}

TEST(PlotCommand, DrawsARunWithItsFloorAndSaysWhatItLeavesOut) {
  const TempDir folder;
  folder.write("runs/first/metrics.jsonl", kMetrics);
  folder.write("runs/first/result.json", "{\"val_floor\": 0.4321}");
  const std::string svg = (folder.path() / "loss.svg").string();
  const Outcome outcome = plot({(folder.path() / "runs/first").string() + "/"}, svg);
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_NE(outcome.out.find("Loss of first"), std::string::npos) << outcome.out;
  EXPECT_NE(outcome.out.find("0.4321"), std::string::npos) << outcome.out;
  EXPECT_NE(outcome.err.find("1 of 3 values of training loss"), std::string::npos) << outcome.err;
  const std::string written = read_file(svg, ExitCode::data);
  EXPECT_EQ(xml_problem(written), "");
  EXPECT_NE(written.find("0.4321"), std::string::npos);
}

TEST(PlotCommand, OverlaysRunsUnderTheirOwnNames) {
  const TempDir folder;
  for (const char* run : {"one", "two", "deep/one"}) {
    folder.write(fmt::format("{}/metrics.jsonl", run), kMetrics);
  }
  const std::string root = folder.path().string();
  const Outcome two = plot({root + "/one", root + "/two"});
  EXPECT_NE(two.out.find("a one   A one, validation"), std::string::npos) << two.out;
  EXPECT_NE(two.out.find("b two   B two, validation"), std::string::npos) << two.out;
  const Outcome same = plot({root + "/one", root + "/deep/one"});
  EXPECT_NE(same.out.find(root.substr(0, 20)), std::string::npos) << same.out;
}

TEST(PlotCommand, WritesThePageToo) {
  const TempDir folder;
  const std::string resume = "{\"step\":3,\"event\":\"resume\"}\n";
  folder.write("one/metrics.jsonl", kMetrics + resume);
  folder.write("two/metrics.jsonl", kMetrics);
  folder.write("two/result.json", "{\"val_floor\": 0.4321}");
  const std::string html = (folder.path() / "loss.html").string();
  const std::string root = folder.path().string();
  const Outcome outcome = plot({root + "/one", root + "/two"}, "", html);
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_NE(outcome.out.find("wrote " + html + "\n"), std::string::npos) << outcome.out;
  EXPECT_NE(outcome.out.find("┴ resumed"), std::string::npos) << outcome.out;
  const nlohmann::json data = page_data(read_file(html, ExitCode::data));
  EXPECT_EQ(data.at("title"), "Loss of one, two");
  EXPECT_EQ(data.at("floor"), 0.4321);
  ASSERT_EQ(data.at("groups").size(), 2u);
  EXPECT_EQ(data.at("groups")[0].at("name"), "one");
  EXPECT_EQ(data.at("groups")[0].at("resumes").dump(), "[3]");
  EXPECT_EQ(data.at("groups")[1].at("resumes").dump(), "[]");
  EXPECT_EQ(data.at("groups")[1].at("curves")[1].at("name"), "two, validation");
  EXPECT_EQ(plot({root + "/one"}, "", root + "/no/such/loss.html").code,
            static_cast<int>(ExitCode::storage));
}

TEST(PlotCommand, NothingToDrawIsAnError) {
  const TempDir folder;
  const std::string empty = folder.write("empty.jsonl", "");
  const std::string nulls = folder.write("nulls.jsonl", "{\"step\":1,\"train/loss\":null}\n");
  for (const std::string& path : {empty, nulls, folder.path().string(), std::string("/no/such")}) {
    const Outcome outcome = plot({path});
    EXPECT_EQ(outcome.code, static_cast<int>(ExitCode::data)) << path;
    EXPECT_NE(outcome.err.find(path), std::string::npos) << outcome.err;
    EXPECT_EQ(outcome.out, "");
  }
  EXPECT_EQ(plot({}).code, static_cast<int>(ExitCode::usage));
}

TEST(PlotCommand, AnSvgThatCannotBeWrittenIsAStorageError) {
  const TempDir folder;
  const std::string file = folder.write("metrics.jsonl", kMetrics);
  EXPECT_EQ(plot({file}, (folder.path() / "no/such/loss.svg").string()).code,
            static_cast<int>(ExitCode::storage));
}

}  // namespace
}  // namespace lathe
