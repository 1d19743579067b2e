// The page is page.html with page_view.js and page_draw.js; this puts the curves into it, as JSON.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <string_view>

#include "lathe/plot.h"
#include "plot_scale.h"

namespace lathe {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kPage =
#include "plot/page.html.inc"
    ;
constexpr std::string_view kView =
#include "plot/page_view.js.inc"
    ;
constexpr std::string_view kDraw =
#include "plot/page_draw.js.inc"
    ;

constexpr int kMostPoints = 20'000;

bool fits_page(double value) {
  return std::abs(value) < 1e18;  // a whole number of 64 bits, a float, and no NaN
}

// Losses take the digits of a float: that many a page has room for, and a picture has use for
// fewer.
Json losses(const std::vector<double>& values) {
  Json array = Json::array();
  for (const double value : values) {
    array.push_back(std::stod(fmt::format("{}", static_cast<float>(value))));
  }
  return array;
}

Json steps(const std::vector<double>& values) {
  Json array = Json::array();
  for (const double value : values) {
    if (fits_page(value)) array.push_back(std::llround(value));
  }
  return array;
}

// Points that can be drawn, few enough.
Json points_of(const Curve& curve) {
  std::vector<double> x, y;
  for (std::size_t i = 0; i < curve.x.size(); ++i) {
    if (!fits_page(curve.x[i]) || !fits_page(curve.y[i])) continue;
    x.push_back(curve.x[i]);
    y.push_back(curve.y[i]);
  }
  if (x.size() > kMostPoints) {
    const auto [low, high] = std::ranges::minmax(x);
    const Curve whole{.name = "", .x = std::move(x), .y = std::move(y)};
    x.clear();
    y.clear();
    for (const Column& column : thin(whole, {.low = low, .high = high, .step = 1}, kMostPoints)) {
      x.push_back(column.x);
      y.push_back(column.mean);
    }
  }
  return {{"x", steps(x)}, {"y", losses(y)}};
}

// Curves of one colour are hidden and shown together, under the name of the first.
Json data_of(const PlotSpec& spec) {
  std::map<int, Json> groups;
  for (const Curve& curve : spec.curves) {
    Json points = points_of(curve);
    if (points["x"].empty()) continue;
    Json& group = groups[curve.colour];
    if (group.is_null()) {
      group = {{"name", curve.name}, {"resumes", Json::array()}, {"curves", Json::array()}};
    }
    for (Json& step : steps(curve.resumes)) group["resumes"].push_back(std::move(step));
    points["name"] = curve.name;
    points["mark"] = curve.mark == Curve::Mark::line ? "line" : "points";
    group["curves"].push_back(std::move(points));
  }
  Json data = {{"title", spec.title}, {"x_label", spec.x_label}, {"y_label", spec.y_label}};
  data["floor"] = spec.floor ? Json(*spec.floor) : Json(nullptr);
  data["floor_label"] = spec.floor_label;
  data["groups"] = Json::array();
  for (auto& [colour, group] : groups) data["groups"].push_back(std::move(group));
  return data;
}

// JSON that stands inside a script element: nothing in it ends the element or begins a comment.
std::string script_text(const Json& json) {
  std::string text;
  for (const char c : json.dump(-1, ' ', true, Json::error_handler_t::replace)) {
    if (c == '<') {
      text += "\\u003c";
    } else {
      text += c;
    }
  }
  return text;
}

// The page with each {{name}} replaced; what is put in is not looked at again.
std::string filled(std::string_view page, const std::map<std::string_view, std::string>& parts) {
  std::string text;
  for (std::size_t open; (open = page.find("{{")) != page.npos;) {
    const std::size_t close = page.find("}}", open);
    text += page.substr(0, open);
    text += parts.at(page.substr(open + 2, close - open - 2));
    page.remove_prefix(close + 2);
  }
  return text.append(page);
}

}  // namespace

std::string plot_html(const PlotSpec& spec) {
  return filled(kPage, {{"data", script_text(data_of(spec))},
                        {"view", std::string(kView)},
                        {"draw", std::string(kDraw)}});
}

}  // namespace lathe
