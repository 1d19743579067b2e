// What the terminal's and the SVG's drawing share: axes with round numbers, and curves thinned to
// as many columns as the picture has, so that nothing later depends on the number of points.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "lathe/plot.h"

namespace lathe {

struct Axis {
  double low, high;  // low < high
  double step;       // between ticks, which are its multiples

  double fraction(double value) const { return (value - low) / (high - low); }
  std::vector<double> ticks() const;
  std::string label(double tick) const;  // "0.25", "20k", "1.5M"
};

// A step of 1, 2, 2.5 or 5 times a power of ten, about `ticks` of them; both ends multiples of it.
Axis round_axis(double low, double high, int ticks);

struct Axes {
  Axis x, y;  // every finite point and the floor are inside; x ends with the last point
};

// nullopt when no curve has a finite point.
std::optional<Axes> fit_axes(const PlotSpec& spec, int x_ticks, int y_ticks);

// The points of a curve that share one column of the picture.
struct Column {
  double x;  // their mean
  double mean, low, high;
  std::int64_t count;
};

bool has_resumes(const PlotSpec& spec);

// Where resumes stand on the axis, as fractions of it, from left to right; of those that fall on
// one of `columns`, the first.
std::vector<double> resume_places(const Curve& curve, const Axis& x, int columns);

// Columns that hold a point, from left to right.
std::vector<Column> thin(const Curve& curve, const Axis& x, int columns);

// Replaces every mean by that of a window of up to `reach` columns on either side. The windows grow
// from nothing at the left, so that the steep beginning of a loss curve stays steep.
std::vector<Column> smooth(const std::vector<Column>& columns, int reach);

}  // namespace lathe
