#include "lathe/plot.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <sstream>

#include "plot/plot_scale.h"
#include "support/json.h"
#include "support/picture_files.h"

namespace lathe {
namespace {

using test::page_data;
using test::xml_problem;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

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
  const nlohmann::json data = page_data(plot_html(spec));
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
  EXPECT_TRUE(page_data(plot_html(spec_of({}))).at("floor").is_null());
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
  EXPECT_EQ(page_data(page).at("title"), replaced);
  EXPECT_EQ(page_data(page).at("groups")[0].at("name"), replaced);
}

TEST(PlotHtml, NeedsNothingButItself) {
  const std::string page = plot_html(spec_of({falling(100)}));
  for (const char* outside : {"http:", "https:", "src=", "<link", "@import", "url(", "import("}) {
    EXPECT_EQ(page.find(outside), std::string::npos) << outside;
  }
  EXPECT_NE(page.find("default-src 'none'"), std::string::npos);
  EXPECT_TRUE(page.starts_with("<!doctype html>\n"));
  EXPECT_TRUE(page.ends_with("</html>\n"));
}

TEST(PlotHtml, AMillionPointsBecomeMeans) {
  Curve curve = line({}, {});
  for (int i = 0; i < 1'000'000; ++i) {
    curve.x.push_back(i);
    curve.y.push_back(i % 2);
  }
  const std::string page = plot_html(spec_of({curve}));
  EXPECT_LT(page.size(), 500'000u);
  const nlohmann::json points = page_data(page).at("groups")[0].at("curves")[0];
  EXPECT_EQ(points.at("x").size(), 20'000u);
  for (const nlohmann::json& y : points.at("y")) ASSERT_NEAR(y.get<double>(), 0.5, 0.02);
}

}  // namespace
}  // namespace lathe
