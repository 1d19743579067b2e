#include "lathe/plot.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>

#include "lathe/commands.h"
#include "lathe/error.h"
#include "lathe/files.h"
#include "plot/plot_scale.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// A folder that goes with the test.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    const auto* info = testing::UnitTest::GetInstance()->current_test_info();
    path_ = fs::path(testing::TempDir()) /
            fmt::format("lathe_plot_{}_{}", info->name(),
                        std::chrono::steady_clock::now().time_since_epoch().count());
    fs::create_directories(path_);
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  std::string write(const std::string& name, const std::string& text) const {
    fs::create_directories((path_ / name).parent_path());
    OutputFile(path_ / name).write(text);
    return (path_ / name).string();
  }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

// Enough of XML to tell a drawing that a browser refuses: tags nest, attributes are quoted, the
// markup characters are escaped, the entities are known, and control characters are missing.
class XmlChecker {
 public:
  explicit XmlChecker(std::string_view text) : text_(text) {}

  // Empty, or what is wrong.
  std::string check() {
    while (!text_.empty()) {
      const std::string problem = text_.front() == '<' ? tag() : content();
      if (!problem.empty()) return problem;
    }
    if (!open_.empty()) return "not closed: " + open_.back();
    return roots_ == 1 ? "" : fmt::format("{} roots", roots_);
  }

 private:
  static bool is_name(char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == ':';
  }

  std::string_view take_name() {
    std::size_t end = 0;
    while (end < text_.size() && is_name(text_[end])) ++end;
    const std::string_view name = text_.substr(0, end);
    text_.remove_prefix(end);
    return name;
  }

  bool take(std::string_view expected) {
    if (!text_.starts_with(expected)) return false;
    text_.remove_prefix(expected.size());
    return true;
  }

  std::string tag() {
    if (take("</")) {
      const std::string name(take_name());
      if (open_.empty() || open_.back() != name || !take(">")) return "wrong end of " + name;
      open_.pop_back();
      return "";
    }
    text_.remove_prefix(1);
    const std::string name(take_name());
    if (name.empty()) return "a bare <";
    roots_ += open_.empty();
    while (take(" ")) {
      if (take_name().empty() || !take("=\"")) return "bad attribute of " + name;
      const std::size_t end = text_.find('"');
      if (end == std::string_view::npos) return "open attribute of " + name;
      if (const auto problem = characters(text_.substr(0, end)); !problem.empty()) return problem;
      text_.remove_prefix(end + 1);
    }
    if (take("/>")) return "";
    if (!take(">")) return "tag not closed: " + name;
    open_.push_back(name);
    return "";
  }

  std::string content() {
    const std::size_t end = std::min(text_.find('<'), text_.size());
    const std::string_view part = text_.substr(0, end);
    text_.remove_prefix(end);
    if (open_.empty() && part.find_first_not_of('\n') != std::string_view::npos) {
      return "text outside the root";
    }
    return characters(part);
  }

  static std::string characters(std::string_view part) {
    for (std::size_t i = 0; i < part.size(); ++i) {
      const auto c = static_cast<unsigned char>(part[i]);
      if (c == '<' || (c < 0x20 && c != '\n')) return fmt::format("character {:#x}", c);
      if (c != '&') continue;
      const std::string_view entity = part.substr(i, part.find(';', i) - i);
      if (entity != "&amp" && entity != "&lt" && entity != "&gt" && entity != "&quot") {
        return "unknown entity";
      }
    }
    return "";
  }

  std::string_view text_;
  std::vector<std::string> open_;
  int roots_ = 0;
};

std::string xml_problem(const std::string& text) {
  return XmlChecker(text).check();
}

TEST(XmlChecker, SeesWhatItLooksFor) {
  EXPECT_EQ(xml_problem("<a b=\"1 &amp; 2\"><c/>x</a>\n"), "");
  for (const char* bad : {"<a>", "<a></b>", "<a>&</a>", "<a>&nbsp;</a>", "<a b=1/>", "<a b=\"<\"/>",
                          "<a/><b/>", "<a/>x", "<a>1 < 2</a>", "<a>\x01</a>", "", "<a b=\"/>"}) {
    EXPECT_NE(xml_problem(bad), "") << bad;
  }
}

Curve line(std::vector<double> x, std::vector<double> y) {
  return {.name = "training loss", .x = std::move(x), .y = std::move(y)};
}

// A loss that falls from 5.5 towards 0.5, with noise.
Curve falling(std::int64_t count) {
  Curve curve = line({}, {});
  std::uint64_t noise = 1;
  for (std::int64_t i = 1; i <= count; ++i) {
    noise = noise * 6364136223846793005 + 1442695040888963407;
    const double part = static_cast<double>(i) / static_cast<double>(count);
    curve.x.push_back(static_cast<double>(i));
    curve.y.push_back(0.5 + 5 / (1 + 40 * part) + static_cast<double>(noise >> 40) * 0x1p-24 / 10);
  }
  return curve;
}

PlotSpec spec_of(std::vector<Curve> curves) {
  return {.title = "loss",
          .x_label = "step",
          .y_label = "nats",
          .curves = std::move(curves),
          .floor = std::nullopt,
          .floor_label = {}};
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string next; std::getline(stream, next);) lines.push_back(next);
  return lines;
}

std::size_t width_of(const std::string& text) {
  return static_cast<std::size_t>(std::ranges::count_if(
      text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

std::size_t count_of(const std::string& text, const std::string& part) {
  std::size_t count = 0;
  for (std::size_t at = 0; (at = text.find(part, at)) != std::string::npos; ++at) ++count;
  return count;
}

TEST(PlotAxis, StepsAreRoundAndEndsCoverTheData) {
  const struct {
    double low, high;
    int ticks;
    double step, first, last;
  } kCases[] = {
      {0.42, 5.53, 6, 1, 0, 6},
      {1, 366, 8, 50, 0, 400},
      {0, 1, 5, 0.2, 0, 1},
      {-3, 7, 5, 2, -4, 8},
      {0.4423, 0.4467, 4, 0.002, 0.442, 0.448},
      {0, 1e6, 4, 250000, 0, 1e6},
      {3, 3.3, 6, 0.05, 3, 3.3},
  };
  for (const auto& c : kCases) {
    const Axis axis = round_axis(c.low, c.high, c.ticks);
    EXPECT_NEAR(axis.step, c.step, 1e-9 * c.step) << c.low;
    EXPECT_NEAR(axis.low, c.first, 1e-9 * c.step) << c.low;
    EXPECT_NEAR(axis.high, c.last, 1e-9 * c.step) << c.low;
    const std::vector<double> ticks = axis.ticks();
    EXPECT_NEAR(ticks.front(), axis.low, 1e-9 * c.step);
    EXPECT_NEAR(ticks.back(), axis.high, 1e-9 * c.step);
  }
}

TEST(PlotAxis, LabelsTellTicksApart) {
  EXPECT_EQ(round_axis(0, 1, 5).label(0.2), "0.2");
  EXPECT_EQ(round_axis(0, 1, 4).label(0.25), "0.25");
  EXPECT_EQ(round_axis(0, 1, 4).label(0.5), "0.50");
  EXPECT_EQ(round_axis(0, 1, 4).label(0), "0");
  EXPECT_EQ(round_axis(0, 2000, 8).label(250), "250");
  EXPECT_EQ(round_axis(0, 20000, 8).label(2500), "2.5k");
  EXPECT_EQ(round_axis(0, 20000, 8).label(10000), "10k");
  EXPECT_EQ(round_axis(0, 1e6, 4).label(1e6), "1M");
  EXPECT_EQ(round_axis(-4, 4, 4).label(-2), "-2");
}

TEST(PlotAxis, CoverEveryFinitePointAndTheFloor) {
  PlotSpec spec = spec_of({line({1, 2, 3}, {5, kNan, 2}), line({7, 4}, {3, HUGE_VAL})});
  spec.floor = 0.5;
  const auto axes = fit_axes(spec, 6, 6);
  ASSERT_TRUE(axes);
  EXPECT_LE(axes->x.low, 1);
  EXPECT_EQ(axes->x.high, 7);
  EXPECT_LT(axes->y.low, 0.5);
  EXPECT_GE(axes->y.high, 5);
  EXPECT_LE(axes->y.high, 6);
  spec.floor = 9.5;
  EXPECT_GE(fit_axes(spec, 6, 6)->y.high, 9.5);
}

TEST(PlotScale, ThinKeepsMeansExtremesAndCounts) {
  const Axis x{.low = 0, .high = 10, .step = 1};
  const std::vector<Column> columns =
      thin(line({0, 1, 2, 4.9, 5, 10, 3}, {1, 2, 6, 3, 8, 4, kNan}), x, 2);
  ASSERT_EQ(columns.size(), 2u);
  EXPECT_EQ(columns[0].count, 4);
  EXPECT_DOUBLE_EQ(columns[0].mean, 3);
  EXPECT_EQ(columns[0].low, 1);
  EXPECT_EQ(columns[0].high, 6);
  EXPECT_EQ(columns[1].count, 2);
  EXPECT_DOUBLE_EQ(columns[1].x, 7.5);
  EXPECT_DOUBLE_EQ(columns[1].mean, 6);
}

TEST(PlotScale, SmoothingKeepsConstantsAndWeighsColumnsByTheirPoints) {
  std::vector<Column> columns(9, {.x = 0, .mean = 2, .low = 2, .high = 2, .count = 1});
  for (const Column& column : smooth(columns, 3)) EXPECT_DOUBLE_EQ(column.mean, 2);
  columns[8] = {.x = 0, .mean = 5, .low = 5, .high = 5, .count = 2};
  const std::vector<Column> smoothed = smooth(columns, 1);
  EXPECT_DOUBLE_EQ(smoothed[8].mean, 4);
  EXPECT_DOUBLE_EQ(smoothed[7].mean, 3.5);
  EXPECT_DOUBLE_EQ(smoothed[6].mean, 2);
  EXPECT_DOUBLE_EQ(smooth(columns, 0)[8].mean, 5);
}

TEST(PlotTerminal, KeepsItsSizeAndHasNoControlCodes) {
  PlotSpec spec = spec_of({falling(500)});
  spec.floor = 0.5;
  spec.floor_label = "floor";
  for (const int columns : {40, 80, 133}) {
    const std::string text = plot_terminal(spec, columns, 18);
    const std::vector<std::string> lines = lines_of(text);
    EXPECT_EQ(lines.size(), 18u);
    for (const std::string& one : lines)
      EXPECT_LE(width_of(one), static_cast<std::size_t>(columns));
    for (const char c : text) EXPECT_TRUE(c == '\n' || static_cast<unsigned char>(c) >= 0x20);
    EXPECT_NE(text.find("floor 0.5000"), std::string::npos);
    EXPECT_EQ(lines.front(), "loss");
  }
}

// The picture of a known curve, dot by dot: a diagonal over a floor.
TEST(PlotTerminal, PutsPointsWhereTheyBelong) {
  Curve diagonal = line({}, {});
  for (int i = 0; i <= 100; ++i) {
    diagonal.x.push_back(i);
    diagonal.y.push_back(i);
  }
  const std::vector<std::string> lines = lines_of(plot_terminal(spec_of({diagonal}), 45, 10));
  ASSERT_EQ(lines.size(), 10u);
  EXPECT_NE(lines[1].find("100 ┤"), std::string::npos) << lines[1];
  std::size_t last = 1000;
  for (std::size_t row = 1; row <= 6; ++row) {  // the field, from the top
    const std::size_t axis = std::min(lines[row].find("┤"), lines[row].find("│"));
    const std::string field = lines[row].substr(axis + 3);
    const std::size_t blank = field.find_first_not_of(' ');
    EXPECT_LT(blank, last) << row;
    last = blank;
  }
  EXPECT_EQ(last, 0u);
}

TEST(PlotTerminal, PutsMarksWhereTheyBelong) {
  Curve points = line({0, 10}, {10, 0});
  points.mark = Curve::Mark::points;
  const std::vector<std::string> lines = lines_of(plot_terminal(spec_of({points}), 45, 10));
  ASSERT_EQ(lines.size(), 10u);
  EXPECT_NE(lines[1].find("┤●"), std::string::npos) << lines[1];
  EXPECT_TRUE(lines[6].ends_with(" ●")) << lines[6];
}

TEST(PlotTerminal, LettersTellRunsApart) {
  std::vector<Curve> curves = {falling(300), falling(300), line({100, 300}, {3, 2})};
  curves[1].colour = 1;
  curves[1].name = "second";
  curves[2].colour = 1;
  curves[2].name = "second, validation";
  curves[2].mark = Curve::Mark::points;
  const std::string text = plot_terminal(spec_of(curves), 80, 20);
  EXPECT_NE(text.find("a training loss"), std::string::npos) << text;
  EXPECT_NE(text.find("b second"), std::string::npos) << text;
  EXPECT_NE(text.find("B second, validation"), std::string::npos) << text;
  EXPECT_EQ(count_of(text, "B"), 3u) << text;  // two points and the legend
}

TEST(Plot, NothingToDrawIsSaid) {
  for (const auto& spec : {spec_of({}), spec_of({line({}, {})}), spec_of({line({1}, {kNan})})}) {
    EXPECT_NE(plot_terminal(spec, 80, 20).find("no data"), std::string::npos);
    EXPECT_NE(plot_svg(spec).find("no data"), std::string::npos);
    EXPECT_EQ(xml_problem(plot_svg(spec)), "");
  }
}

// One point, a constant, huge and tiny values: axes are sane, and nothing becomes "nan" or "inf".
TEST(Plot, DegenerateCurves) {
  const Curve cases[] = {line({1}, {5.5}),           line({0}, {0}),
                         line({1, 2, 3}, {2, 2, 2}), line({1, 2}, {1, 1 + 1e-15}),
                         line({1, 2}, {-3, -3}),     line({1, 2}, {1e-300, 1e90}),
                         line({1, 2}, {1, 1e300}),   line({5, 5}, {1, 2}),
                         line({1, 2}, {0, 5e-324})};
  for (const Curve& curve : cases) {
    const PlotSpec spec = spec_of({curve});
    const auto axes = fit_axes(spec, 6, 6);
    ASSERT_TRUE(axes);
    EXPECT_LT(axes->y.low, axes->y.high);
    EXPECT_GE(axes->y.ticks().size(), 2u) << curve.y[0];
    EXPECT_LE(axes->y.ticks().size(), 12u) << curve.y[0];
    const std::string svg = plot_svg(spec);
    EXPECT_EQ(xml_problem(svg), "");
    EXPECT_EQ(svg.find("nan"), std::string::npos);
    EXPECT_EQ(svg.find("inf"), std::string::npos);
    EXPECT_FALSE(plot_terminal(spec, 80, 20).empty());
  }
}

TEST(PlotSvg, IsWellFormedWithHostileNames) {
  PlotSpec spec = spec_of({falling(200), line({50, 200}, {2, 1})});
  spec.title = "<script>alert(\"&\")</script>\x01";
  spec.x_label = "a & b";
  spec.y_label = "<y>";
  spec.floor = 0.5;
  spec.floor_label = "</svg>";
  spec.curves[0].name = "\"x\" < y";
  spec.curves[1].mark = Curve::Mark::points;
  const std::string svg = plot_svg(spec);
  EXPECT_EQ(xml_problem(svg), "");
  EXPECT_EQ(svg.find("<script"), std::string::npos);
  EXPECT_EQ(count_of(svg, "class=\"floor\""), 1u);
  EXPECT_EQ(count_of(svg, "<circle"), 3u);  // two points and the legend's
  EXPECT_EQ(count_of(svg, "class=\"raw\""), 1u);
  EXPECT_NE(svg.find("&quot;x&quot; &lt; y"), std::string::npos);
}

TEST(PlotSvg, AMillionPointsStaySmallAndFast) {
  PlotSpec spec = spec_of({falling(1'000'000), falling(1'000'000)});
  spec.curves[1].mark = Curve::Mark::points;
  const auto start = std::chrono::steady_clock::now();
  const std::string svg = plot_svg(spec);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  EXPECT_LT(svg.size(), 200'000u);
  EXPECT_LT(seconds.count(), 5) << "takes some 0.05 s on a free core";
  EXPECT_EQ(xml_problem(svg), "");
}

// A curve of steps 1 to 100 that has resumed at these.
Curve resumed_at(std::vector<double> steps) {
  Curve curve = line({}, {});
  for (int i = 0; i <= 100; ++i) {
    curve.x.push_back(i);
    curve.y.push_back(100 - i);
  }
  curve.resumes = std::move(steps);
  return curve;
}

TEST(PlotTerminal, MarksResumesOnTheAxis) {
  const auto axis_of = [](const std::vector<double>& steps) {
    const std::string text = plot_terminal(spec_of({resumed_at(steps)}), 45, 12);
    for (const std::string& one : lines_of(text)) {
      if (const std::size_t at = one.find("└"); at != one.npos) return one.substr(at + 3);
    }
    return std::string();
  };
  const auto columns_before = [](const std::string& text) {
    return static_cast<double>(width_of(text.substr(0, text.find("┴"))));
  };
  const std::string axis = axis_of({50});
  const auto columns = static_cast<double>(width_of(axis));
  EXPECT_EQ(count_of(axis, "┴"), 1u) << axis;
  EXPECT_NEAR(columns_before(axis), columns / 2, 1);
  EXPECT_EQ(width_of(axis_of({})), width_of(axis));
  EXPECT_TRUE(axis_of({100}).ends_with("┴"));
  EXPECT_EQ(columns_before(axis_of({0})), 0);
  EXPECT_EQ(count_of(axis_of({0, 0, 40, 100}), "┴"), 3u);
  EXPECT_EQ(count_of(axis_of({}), "┴"), 0u);
  EXPECT_EQ(count_of(axis_of({101, 1e300, kNan}), "┴"), 0u) << "beyond the last step";
  EXPECT_NE(plot_terminal(spec_of({resumed_at({50})}), 45, 12).find("┴ resumed"),
            std::string::npos);
  EXPECT_EQ(plot_terminal(spec_of({resumed_at({})}), 45, 12).find("resumed"), std::string::npos);
}

TEST(PlotSvg, MarksResumesFewOfThemHoweverManyThereAre) {
  const auto svg_of = [](std::vector<double> steps) {
    return plot_svg(spec_of({resumed_at(std::move(steps))}));
  };
  EXPECT_EQ(count_of(svg_of({}), "class=\"resume"), 0u);
  const std::string svg = svg_of({25, 75});
  EXPECT_EQ(count_of(svg, "class=\"resume\""), 3u);  // with the legend's
  EXPECT_NE(svg.find(">resumed<"), std::string::npos);
  EXPECT_EQ(xml_problem(svg), "");
  const double left = 52, width = 860 - 52 - 64;  // of the field
  for (const double part : {0.25, 0.75}) {
    const std::string place = fmt::format("M{:.1f} 450.0", left + part * width);
    EXPECT_NE(svg.find("class=\"resume\" d=\"" + place), std::string::npos) << place;
  }
  std::vector<double> many;
  for (int i = 0; i < 100'000; ++i) many.push_back(i / 1000.0);
  EXPECT_LT(svg_of(many).size(), 50'000u);
}

// The JSON that the page's script reads.
nlohmann::json data_of(const std::string& page) {
  const std::string begin = "<script id=\"data\" type=\"application/json\">";
  const std::size_t from = page.find(begin) + begin.size();
  return nlohmann::json::parse(page.substr(from, page.find("</script>", from) - from));
}

TEST(PlotHtml, HoldsTheCurvesByColour) {
  Curve validation = line({2, 3}, {4.25, kNan});
  validation.name = "first, validation";
  validation.mark = Curve::Mark::points;
  Curve second = line({1, HUGE_VAL, 2}, {0.1, 1, 1e-7});
  second.colour = 1;
  Curve empty = line({1}, {kNan});
  empty.colour = 2;
  PlotSpec spec = spec_of({resumed_at({40, 1e300}), validation, second, empty});
  spec.floor = 0.5;
  spec.floor_label = "floor";
  const nlohmann::json data = data_of(plot_html(spec));
  EXPECT_EQ(data.at("title"), "loss");
  EXPECT_EQ(data.at("floor"), 0.5);
  EXPECT_EQ(data.at("floor_label"), "floor");
  const nlohmann::json& groups = data.at("groups");
  ASSERT_EQ(groups.size(), 2u);
  EXPECT_EQ(groups[0].at("name"), "training loss");
  EXPECT_EQ(groups[0].at("resumes").dump(), "[40]");
  ASSERT_EQ(groups[0].at("curves").size(), 2u);
  EXPECT_EQ(groups[0]["curves"][0].at("mark"), "line");
  EXPECT_EQ(groups[0]["curves"][0].at("x").size(), 101u);
  EXPECT_EQ(groups[0]["curves"][1].dump(),
            R"({"mark":"points","name":"first, validation","x":[2],"y":[4.25]})");
  EXPECT_EQ(groups[1].at("curves")[0].at("x").dump(), "[1,2]");
  EXPECT_EQ(groups[1]["curves"][0].at("y").dump(), "[0.1,1e-07]");
  EXPECT_TRUE(data_of(plot_html(spec_of({}))).at("floor").is_null());
}

TEST(PlotHtml, NamesCannotEndTheScript) {
  const std::string hostile = "</script><!--<script>{{view}}\"'&\\\x01\xff";
  PlotSpec spec = spec_of({line({1}, {2})});
  const std::string plain = plot_html(spec);
  spec.title = spec.x_label = spec.y_label = spec.floor_label = hostile;
  spec.curves[0].name = hostile;
  const std::string page = plot_html(spec);
  for (const char* part : {"<script", "</script", "<!--", "\"use strict\""}) {
    EXPECT_EQ(count_of(page, part), count_of(plain, part)) << part;
  }
  const std::string replaced = hostile.substr(0, hostile.size() - 1) + "\xEF\xBF\xBD";
  EXPECT_EQ(data_of(page).at("title"), replaced);
  EXPECT_EQ(data_of(page).at("groups")[0].at("name"), replaced);
}

TEST(PlotHtml, NeedsNothingButItself) {
  const std::string page = plot_html(spec_of({falling(100)}));
  for (const char* outside : {"http:", "https:", "src=", "<link", "@import", "url(", "import("}) {
    EXPECT_EQ(page.find(outside), std::string::npos) << outside;
  }
  EXPECT_NE(page.find("default-src 'none'"), std::string::npos);
}

TEST(PlotHtml, AMillionPointsBecomeMeans) {
  Curve curve = line({}, {});
  for (int i = 0; i < 1'000'000; ++i) {
    curve.x.push_back(i);
    curve.y.push_back(i % 2);
  }
  const std::string page = plot_html(spec_of({curve}));
  EXPECT_LT(page.size(), 500'000u);
  const nlohmann::json points = data_of(page).at("groups")[0].at("curves")[0];
  EXPECT_EQ(points.at("x").size(), 20'000u);
  for (const nlohmann::json& y : points.at("y")) ASSERT_NEAR(y.get<double>(), 0.5, 0.02);
}

constexpr const char* kMetrics =
    "{\"step\":1,\"train/loss\":5.5,\"train/lr\":1e-3}\n"
    "{\"step\":2,\"train/loss\":null}\n"
    "{\"step\":2,\"val/loss\":4.25}\n"
    "{\"step\":3,\"train/loss\":4}\n";

TEST(ReadCurves, TakesTheFolderOrTheFile) {
  const TemporaryFolder folder;
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
  const TemporaryFolder folder;
  const std::string text = std::string(kMetrics) + "{\"step\":4,\"train/loss\":3}";
  for (std::size_t length = text.size() - 25; length <= text.size(); ++length) {
    const std::string file = folder.write("metrics.jsonl", text.substr(0, length));
    const std::size_t expected = length == text.size() ? 4 : 3;
    EXPECT_EQ(read_curves(file)[0].x.size(), expected) << length;
  }
  EXPECT_TRUE(read_curves(folder.write("empty.jsonl", "")).empty());
}

TEST(ReadCurves, TheFirstCurveHasTheResumes) {
  const TemporaryFolder folder;
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
  const TemporaryFolder folder;
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
  const TemporaryFolder folder;
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
  const TemporaryFolder folder;
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
  const TemporaryFolder folder;
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
  const nlohmann::json data = data_of(read_file(html, ExitCode::data));
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
  const TemporaryFolder folder;
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
  const TemporaryFolder folder;
  const std::string file = folder.write("metrics.jsonl", kMetrics);
  EXPECT_EQ(plot({file}, (folder.path() / "no/such/loss.svg").string()).code,
            static_cast<int>(ExitCode::storage));
}

}  // namespace
}  // namespace lathe
