#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>

#include "lathe/plot.h"
#include "plot_scale.h"

namespace lathe {
namespace {

constexpr int kDotsAcross = 2, kDotsDown = 4;  // of a Braille character
constexpr const char* kResumed = "┴";

// A UTF-8 text of known width: one column for each character.
std::size_t width_of(const std::string& text) {
  return static_cast<std::size_t>(std::ranges::count_if(
      text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

std::string cut(const std::string& text, std::size_t width) {
  std::size_t bytes = 0;
  for (std::size_t seen = 0; bytes < text.size(); ++bytes) {
    const bool starts_character = (static_cast<unsigned char>(text[bytes]) & 0xC0) != 0x80;
    seen += starts_character;
    if (seen > width) break;
  }
  return text.substr(0, bytes);
}

std::string padded_left(const std::string& text, std::size_t width) {
  return std::string(width - std::min(width, width_of(text)), ' ') + text;
}

// The field inside the axes: characters, and under them a grid of dots.
class Canvas {
 public:
  Canvas(int columns, int rows)
      : columns_(columns),
        rows_(rows),
        dots_(static_cast<std::size_t>(columns * rows), 0),
        marks_(static_cast<std::size_t>(columns * rows)) {}

  int dots_across() const { return columns_ * kDotsAcross; }
  int columns() const { return columns_; }

  // Places are fractions of the field, x from the left and y from the bottom.
  int dot_column(double x) const { return place(x, columns_ * kDotsAcross); }
  int dot_row(double y) const { return place(1 - y, rows_ * kDotsDown); }

  void dot(int column, int row) {
    // Unicode numbers the dots of a cell down the left side, down the right, then the lowest two.
    constexpr std::array<std::array<int, kDotsAcross>, kDotsDown> kBits = {
        {{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}}};
    const auto down = static_cast<std::size_t>(row % kDotsDown);
    const auto across = static_cast<std::size_t>(column % kDotsAcross);
    dots_[index(column / kDotsAcross, row / kDotsDown)] |= kBits[down][across];
  }

  void mark(double x, double y, const std::string& character) {
    marks_[index(place(x, columns_), place(1 - y, rows_))] = character;
  }

  std::string line(int row) const {
    std::string text;
    for (int column = 0; column < columns_; ++column) {
      const std::string& mark = marks_[index(column, row)];
      const int dots = dots_[index(column, row)];
      text += !mark.empty() ? mark : dots != 0 ? braille(dots) : " ";
    }
    return text;
  }

 private:
  static int place(double fraction, int count) {
    return std::clamp(static_cast<int>(fraction * count), 0, count - 1);
  }
  std::size_t index(int column, int row) const {
    const int cell = row * columns_ + column;
    return static_cast<std::size_t>(cell);
  }
  static std::string braille(int dots) {  // U+2800 + dots, in UTF-8
    return {static_cast<char>(0xE2), static_cast<char>(0xA0 | dots >> 6),
            static_cast<char>(0x80 | (dots & 0x3F))};
  }

  int columns_, rows_;
  std::vector<int> dots_;
  std::vector<std::string> marks_;
};

// The one noisy curve of a picture is a line of dots; letters tell several apart.
std::string mark_of(const PlotSpec& spec, std::size_t curve) {
  const auto is_line = [](const Curve& c) { return c.mark == Curve::Mark::line; };
  const bool points = !is_line(spec.curves[curve]);
  if (spec.curves.size() <= 2 && std::ranges::count_if(spec.curves, is_line) <= 1) {
    return points ? "●" : "";
  }
  const auto letter = static_cast<char>(spec.curves[curve].colour % 26);
  return std::string(1, static_cast<char>((points ? 'A' : 'a') + letter));
}

void draw_line(Canvas& canvas, const Axes& axes, const std::vector<Column>& columns) {
  int last_row = -1, last_column = 0;
  for (const Column& column : columns) {
    const int x = canvas.dot_column(axes.x.fraction(column.x));
    const int y = canvas.dot_row(axes.y.fraction(column.mean));
    if (last_row < 0) {
      last_row = y;
      last_column = x;
    }
    const int length = std::max({1, x - last_column, std::abs(y - last_row)});
    for (int i = 1; i <= length; ++i) {
      const double part = static_cast<double>(i) / length;
      canvas.dot(last_column + static_cast<int>(std::lround(part * (x - last_column))),
                 last_row + static_cast<int>(std::lround(part * (y - last_row))));
    }
    last_row = y;
    last_column = x;
  }
}

void draw(Canvas& canvas, const Axes& axes, const PlotSpec& spec) {
  if (spec.floor) {
    for (int column = 0; column < canvas.dots_across(); column += kDotsAcross) {
      canvas.dot(column, canvas.dot_row(axes.y.fraction(*spec.floor)));
    }
  }
  for (std::size_t i = 0; i < spec.curves.size(); ++i) {
    const std::string mark = mark_of(spec, i);
    const int columns = mark.empty() ? canvas.dots_across() : canvas.columns();
    const std::vector<Column> thinned = thin(spec.curves[i], axes.x, columns);
    if (mark.empty()) {
      draw_line(canvas, axes, thinned);
      continue;
    }
    for (const Column& column : thinned) {
      canvas.mark(axes.x.fraction(column.x), axes.y.fraction(column.mean), mark);
    }
  }
}

// The numbers under the axis, each centred under its place, as far as the axis' name leaves room.
std::string x_labels(const Axis& axis, int columns, const std::string& name) {
  const auto width = static_cast<std::size_t>(columns);
  const std::size_t end = width - std::min(width, width_of(name));
  std::string line(end, ' ');
  std::size_t free = 0;
  for (const double tick : axis.ticks()) {
    const std::string label = axis.label(tick);
    const auto centre = static_cast<std::size_t>(axis.fraction(tick) * (columns - 1));
    const std::size_t begin = std::max(free, centre - std::min(centre, label.size() / 2));
    if (begin + label.size() >= end) break;
    line.replace(begin, label.size(), label);
    free = begin + label.size() + 1;
  }
  return line + cut(name, width);
}

// The axis, with a tick at each resume.
std::string rule(const PlotSpec& spec, const Axis& axis, int columns) {
  std::vector<std::string> line(static_cast<std::size_t>(columns), "─");
  for (const Curve& curve : spec.curves) {
    for (const double place : resume_places(curve, axis, columns)) {
      line[static_cast<std::size_t>(std::min(place * columns, columns - 1.0))] = kResumed;
    }
  }
  return fmt::format("{}", fmt::join(line, ""));
}

// As many lines as the entries need.
std::vector<std::string> legend(const PlotSpec& spec, std::size_t width) {
  std::vector<std::string> entries;
  for (std::size_t i = 0; i < spec.curves.size(); ++i) {
    const std::string mark = mark_of(spec, i);
    entries.push_back(fmt::format("{} {}", mark.empty() ? "⠤⠒" : mark, spec.curves[i].name));
  }
  if (spec.floor) entries.push_back(fmt::format("⠂⠂ {} {:.4f}", spec.floor_label, *spec.floor));
  if (has_resumes(spec)) entries.push_back(fmt::format("{} resumed", kResumed));
  std::vector<std::string> lines;
  for (const std::string& entry : entries) {
    constexpr std::size_t kGap = 3;
    const bool fits = !lines.empty() && width_of(lines.back()) + kGap + width_of(entry) <= width;
    if (fits) {
      lines.back() += std::string(kGap, ' ') + entry;
    } else {
      lines.push_back(cut(entry, width));
    }
  }
  return lines;
}

}  // namespace

std::string plot_terminal(const PlotSpec& spec, int columns, int rows) {
  constexpr int kLeastColumns = 40, kLeastRows = 10, kLeastHeight = 4;
  constexpr int kLinesAround = 3;  // title, axis, its numbers
  columns = std::max(columns, kLeastColumns);
  const auto width = static_cast<std::size_t>(columns);
  const std::vector<std::string> legend_lines = legend(spec, width - 3);
  const int height = std::max(kLeastHeight, std::max(rows, kLeastRows) - kLinesAround -
                                                static_cast<int>(legend_lines.size()));
  const auto axes = fit_axes(spec, columns / 12, std::max(2, height / 2));
  if (!axes) return cut(spec.title, width) + "\n(no data)\n";

  std::vector<std::string> numbers(static_cast<std::size_t>(height));
  std::size_t margin = 0;
  for (const double tick : axes->y.ticks()) {
    const auto row =
        std::clamp(static_cast<int>((1 - axes->y.fraction(tick)) * height), 0, height - 1);
    numbers[static_cast<std::size_t>(row)] = axes->y.label(tick);
    margin = std::max(margin, axes->y.label(tick).size());
  }
  Canvas canvas(columns - static_cast<int>(margin) - 2, height);
  draw(canvas, *axes, spec);

  std::string text = cut(spec.title, width) + "\n";
  for (int row = 0; row < height; ++row) {
    const std::string& number = numbers[static_cast<std::size_t>(row)];
    const std::string field = canvas.line(row);
    text += fmt::format("{} {}{}\n", padded_left(number, margin), number.empty() ? "│" : "┤",
                        field.substr(0, field.find_last_not_of(' ') + 1));
  }
  const std::string indent(margin + 1, ' ');
  text += fmt::format("{}└{}\n", indent, rule(spec, axes->x, canvas.columns()));
  text += fmt::format("{} {}\n", indent, x_labels(axes->x, canvas.columns(), spec.x_label));
  for (const std::string& line : legend_lines) text += fmt::format("   {}\n", line);
  return text;
}

}  // namespace lathe
