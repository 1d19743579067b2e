#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>

#include "lathe/plot.h"
#include "plot_scale.h"

namespace lathe {
namespace {

constexpr double kWidth = 860, kHeight = 500;  // of the whole picture, pixels
constexpr double kLeft = 52, kRight = 64;      // margins beside the field
constexpr double kTop = 98, kBottom = 50;      // above and below it
constexpr double kCharacterWidth = 6.5;        // of the legend's text, about
constexpr double kFieldWidth = kWidth - kLeft - kRight;
constexpr int kPalette = 6;

// Colours come as classes, so that one media query turns the picture dark.
constexpr const char* kStyle = R"(<style>
text{font:12px system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;fill:#57606a}
.paper{fill:#ffffff}.title{font-size:16px;font-weight:600;fill:#1f2328}.legend{fill:#1f2328}
.grid{stroke:#d8dee4;stroke-width:1;fill:none}.axis{stroke:#8c959f;stroke-width:1;fill:none}
.floor{stroke:#6e7781;stroke-width:1.5;stroke-dasharray:6 5;fill:none}
.c0{color:#2563eb}.c1{color:#dd5a0b}.c2{color:#16915c}.c3{color:#8b3fd9}.c4{color:#c8284f}.c5{color:#0e8a9a}
.raw{stroke:currentColor;stroke-width:1;stroke-linejoin:round;fill:none;opacity:.25}
.line{stroke:currentColor;stroke-width:2.2;stroke-linejoin:round;stroke-linecap:round;fill:none}
.link{stroke:currentColor;stroke-width:1.4;fill:none;opacity:.7}
.resume{fill:currentColor;opacity:.75}.resumed{color:#8c959f}
.dot{fill:currentColor;stroke:#ffffff;stroke-width:1.3}.value{fill:currentColor;font-weight:600}
@media(prefers-color-scheme:dark){
text{fill:#9198a1}.paper{fill:#0d1117}.title,.legend{fill:#f0f6fc}
.grid{stroke:#262c36}.axis{stroke:#656c76}.floor{stroke:#9198a1}
.c0{color:#6ca4ff}.c1{color:#ff9a4d}.c2{color:#45c98a}.c3{color:#c297ff}.c4{color:#ff7b98}.c5{color:#4cc5d3}
.dot{stroke:#0d1117}.value{fill:currentColor}
}
</style>
)";

// Text for element content and attributes. Control characters have no place in XML at all.
std::string escape(const std::string& text) {
  std::string escaped;
  for (const char c : text) {
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      default:
        escaped += static_cast<unsigned char>(c) < 0x20 || c == 0x7F ? ' ' : c;
    }
  }
  return escaped;
}

class Picture {
 public:
  explicit Picture(const PlotSpec& spec)
      : spec_(spec), legend_rows_(lay_out_legend()), top_(kTop + 18 * (legend_rows_ - 1)) {}

  std::string draw() {
    add("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" "
        "height=\"{1}\" role=\"img\" aria-label=\"{2}\">\n{3}",
        kWidth, kHeight, escape(spec_.title), kStyle);
    add("<rect class=\"paper\" width=\"{}\" height=\"{}\" rx=\"6\"/>\n", kWidth, kHeight);
    add("<text class=\"title\" x=\"16\" y=\"30\">{}</text>\n", escape(spec_.title));
    axes_ = fit_axes(spec_, 8, 6);
    if (axes_) {
      draw_legend();
      draw_axes();
      draw_curves();
      draw_floor();
      draw_resumes();
    } else {
      add("<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">no data</text>\n", kWidth / 2,
          kHeight / 2);
    }
    svg_ += "</svg>\n";
    return std::move(svg_);
  }

 private:
  struct End {
    const Curve* curve;
    double value;
  };
  struct LegendEntry {
    double x;
    int row;
  };

  template <class... Values>
  void add(fmt::format_string<Values...> format, Values&&... values) {
    fmt::format_to(std::back_inserter(svg_), format, std::forward<Values>(values)...);
  }

  double x(double value) const { return kLeft + axes_->x.fraction(value) * kFieldWidth; }
  double y(double value) const { return bottom() - axes_->y.fraction(value) * (bottom() - top_); }
  double bottom() const { return kHeight - kBottom; }
  int colour(const Curve& curve) const { return curve.colour % kPalette; }

  // Entries from the left, in as many rows as they need. Returns the number of rows.
  int lay_out_legend() {
    constexpr double kSwatch = 26, kGap = 22;
    double at = 16;
    int row = 0;
    for (const Curve& curve : spec_.curves) {
      const double wide = kSwatch + kCharacterWidth * static_cast<double>(curve.name.size());
      if (at > 16 && at + wide > kWidth - 16) {
        at = 16;
        ++row;
      }
      legend_.push_back({.x = at, .row = row});
      at += wide + kGap;
    }
    return row + 1;
  }

  void draw_legend() {
    for (std::size_t i = 0; i < spec_.curves.size(); ++i) {
      const Curve& curve = spec_.curves[i];
      const double left = legend_[i].x;
      const double middle = 51 + 18 * legend_[i].row;
      const bool points = curve.mark == Curve::Mark::points;
      add("<g class=\"c{}\"><path class=\"{}\" d=\"M{} {}h18\"/>", colour(curve),
          points ? "link" : "line", left, middle);
      if (points) add("<circle class=\"dot\" cx=\"{}\" cy=\"{}\" r=\"4\"/>", left + 9, middle);
      add("</g><text class=\"legend\" x=\"{}\" y=\"{}\">{}</text>\n", left + 26, middle + 4,
          escape(curve.name));
    }
  }

  void draw_axes() {
    for (const double tick : axes_->y.ticks()) {
      add("<path class=\"grid\" d=\"M{} {:.1f}H{}\"/><text x=\"{}\" y=\"{:.1f}\" "
          "text-anchor=\"end\">{}</text>\n",
          kLeft, y(tick), kWidth - kRight, kLeft - 8, y(tick) + 4, axes_->y.label(tick));
    }
    for (const double tick : axes_->x.ticks()) {
      add("<path class=\"axis\" d=\"M{:.1f} {}v5\"/><text x=\"{:.1f}\" y=\"{}\" "
          "text-anchor=\"middle\">{}</text>\n",
          x(tick), bottom(), x(tick), bottom() + 19, axes_->x.label(tick));
    }
    add("<path class=\"axis\" d=\"M{} {}H{}\"/>\n", kLeft, bottom(), kWidth - kRight);
    add("<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n", kLeft + kFieldWidth / 2,
        kHeight - 12, escape(spec_.x_label));
    add("<text x=\"16\" y=\"{}\">{}</text>\n", top_ - 14, escape(spec_.y_label));
  }

  // Lines first, so that points lie on top of them.
  void draw_curves() {
    for (const Curve::Mark mark : {Curve::Mark::line, Curve::Mark::points}) {
      for (const Curve& curve : spec_.curves) {
        if (curve.mark != mark) continue;
        add("<g class=\"c{}\">\n", colour(curve));
        mark == Curve::Mark::line ? draw_line(curve) : draw_points(curve);
        svg_ += "</g>\n";
      }
    }
    draw_ends();
  }

  // What the thinned points span, faint, and a moving average.
  void draw_line(const Curve& curve) {
    constexpr int kColumns = 700, kLeastToSmooth = 60;
    constexpr int kWindows = 60;  // smoothing windows across the picture
    const auto lines = std::ranges::count(spec_.curves, Curve::Mark::line, &Curve::mark);
    const std::vector<Column> columns =
        thin(curve, axes_->x, std::max(100, kColumns / static_cast<int>(lines)));
    if (columns.empty()) return;
    const bool noisy = columns.size() >= kLeastToSmooth;
    if (noisy) {
      svg_ += "<path class=\"raw\" d=\"";
      for (const Column& column : columns) {
        const char command = &column == columns.data() ? 'M' : 'L';
        add("{}{:.1f} {:.1f}", command, x(column.x), y(column.high));
        if (column.count > 1) add("V{:.1f}", y(column.low));
      }
      svg_ += "\"/>\n";
    }
    const int reach = noisy ? static_cast<int>(columns.size()) / kWindows : 0;
    const std::vector<Column> smoothed = smooth(columns, reach);
    draw_path("line", smoothed);
    if (columns.size() == 1) draw_dot(columns.front());
    ends_.push_back({.curve = &curve, .value = smoothed.back().mean});
  }

  void draw_points(const Curve& curve) {
    constexpr int kMostColumns = 200;
    constexpr std::size_t kMostDots = 60;
    const std::vector<Column> columns = thin(curve, axes_->x, kMostColumns);
    if (columns.empty()) return;
    draw_path("link", columns);
    const std::size_t stride = columns.size() > kMostDots ? columns.size() : 1;
    for (std::size_t i = columns.size() - 1; i < columns.size(); i -= stride) draw_dot(columns[i]);
    ends_.push_back({.curve = &curve, .value = columns.back().mean});
  }

  void draw_path(const char* style, const std::vector<Column>& columns) {
    add("<path class=\"{}\" d=\"", style);
    for (const Column& column : columns) {
      const char command = &column == columns.data() ? 'M' : 'L';
      add("{}{:.1f} {:.1f}", command, x(column.x), y(column.mean));
    }
    svg_ += "\"/>\n";
  }

  void draw_dot(const Column& at) {
    add("<circle class=\"dot\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"4\"/>\n", x(at.x), y(at.mean));
  }

  // The last values beside the field, from the top down and never over one another. A validation
  // loss says more than a noisy training loss: where there is one, only those are shown.
  void draw_ends() {
    constexpr double kLineHeight = 14;
    const auto is_line = [](const End& end) { return end.curve->mark == Curve::Mark::line; };
    if (!std::ranges::all_of(ends_, is_line)) std::erase_if(ends_, is_line);
    std::ranges::sort(ends_, std::ranges::greater(), &End::value);
    double free = 0;
    for (const End& end : ends_) {
      const double at = std::max(y(end.value) + 4, free);
      free = at + kLineHeight;
      add("<g class=\"c{}\"><text class=\"value\" x=\"{}\" y=\"{:.1f}\">{:.4g}</text></g>\n",
          colour(*end.curve), kWidth - kRight + 9, at, end.value);
    }
  }

  void draw_floor() {
    if (!spec_.floor) return;
    const double height = y(*spec_.floor);
    add("<path class=\"floor\" d=\"M{} {:.1f}H{}\"/>\n", kLeft, height, kWidth - kRight);
    add("<text x=\"{}\" y=\"{:.1f}\">{} {:.4g}</text>\n", kLeft + 8, height + 16,
        escape(spec_.floor_label), *spec_.floor);
  }

  // Small triangles on the axis, close ones as one, and what they mean beside the axis' name.
  void draw_resumes() {
    constexpr int kPlaces = 180;
    if (!has_resumes(spec_)) return;
    svg_ += "<g class=\"resumed\">";
    draw_resume(kLeft + 4, kHeight - 12);
    add("</g><text x=\"{}\" y=\"{}\">resumed</text>\n", kLeft + 13, kHeight - 12);
    for (const Curve& curve : spec_.curves) {
      const std::vector<double> places = resume_places(curve, axes_->x, kPlaces);
      if (places.empty()) continue;
      add("<g class=\"c{}\">\n", colour(curve));
      for (const double place : places) draw_resume(kLeft + place * kFieldWidth, bottom());
      svg_ += "</g>\n";
    }
  }

  void draw_resume(double at, double height) {
    add("<path class=\"resume\" d=\"M{:.1f} {:.1f}h-4l4 -7l4 7z\"/>\n", at, height);
  }

  const PlotSpec& spec_;
  std::vector<LegendEntry> legend_;
  int legend_rows_;
  double top_;
  std::optional<Axes> axes_;
  std::vector<End> ends_;
  std::string svg_;
};

}  // namespace

std::string plot_svg(const PlotSpec& spec) {
  return Picture(spec).draw();
}

}  // namespace lathe
