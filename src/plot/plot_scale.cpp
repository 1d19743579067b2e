#include "plot_scale.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

namespace lathe {
namespace {

// Neither NaN nor so large that a range of such values overflows.
bool is_drawable(double value) {
  return std::abs(value) < 1e100;
}

bool is_drawable(const Curve& curve, std::size_t i) {
  return is_drawable(curve.x[i]) && is_drawable(curve.y[i]);
}

struct Range {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();

  void include(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
  bool empty() const { return low > high; }
  // A single value, or what differs by rounding alone, gets room on both sides; so does what has
  // too few digits left to be divided.
  void widen() {
    constexpr double kSmallest = 1e-100;
    const double largest = std::max(std::abs(low), std::abs(high));
    if (high - low > std::max(1e-9 * largest, kSmallest)) return;
    const double room = largest <= kSmallest ? 1 : largest / 10;
    low -= room;
    high += room;
  }
};

}  // namespace

std::vector<double> Axis::ticks() const {
  const double slack = 1e-9 * (high - low) / step;
  const auto first = static_cast<std::int64_t>(std::ceil(low / step - slack));
  const auto last = static_cast<std::int64_t>(std::floor(high / step + slack));
  std::vector<double> ticks;
  for (std::int64_t i = first; i <= last; ++i) ticks.push_back(static_cast<double>(i) * step);
  return ticks;
}

std::string Axis::label(double tick) const {
  const double largest = std::max(std::abs(low), std::abs(high));
  const double unit = largest >= 1e9 ? 1e9 : largest >= 1e6 ? 1e6 : largest >= 1e4 ? 1e3 : 1;
  const char* suffix = unit == 1e9 ? "G" : unit == 1e6 ? "M" : unit == 1e3 ? "k" : "";
  if (tick == 0) return "0";
  constexpr double kLargestInFull = 1e12, kSmallestStepInFull = 1e-6;
  if (largest >= kLargestInFull || step < kSmallestStepInFull) return fmt::format("{:.10g}", tick);
  int decimals = 0;  // as many as tell the ticks apart
  for (double scaled = step / unit; decimals < 9; ++decimals, scaled *= 10) {
    if (std::abs(scaled - std::round(scaled)) < 1e-6 * scaled) break;
  }
  std::string text = fmt::format("{:.{}f}", tick / unit, decimals);
  if (unit > 1 && decimals > 0) {
    text.erase(text.find_last_not_of('0') + 1);
    if (text.back() == '.') text.pop_back();
  }
  return text + suffix;
}

Axis round_axis(double low, double high, int ticks) {
  const double wanted = (high - low) / ticks;
  const double power = std::pow(10.0, std::floor(std::log10(wanted)));
  double step = 10 * power;
  for (const double factor : {5.0, 2.5, 2.0, 1.0}) {
    if (factor * power >= wanted * (1 - 1e-9)) step = factor * power;
  }
  return {.low = std::floor(low / step + 1e-9) * step,
          .high = std::ceil(high / step - 1e-9) * step,
          .step = step};
}

std::optional<Axes> fit_axes(const PlotSpec& spec, int x_ticks, int y_ticks) {
  Range x, y;
  for (const Curve& curve : spec.curves) {
    for (std::size_t i = 0; i < curve.x.size(); ++i) {
      if (!is_drawable(curve, i)) continue;
      x.include(curve.x[i]);
      y.include(curve.y[i]);
    }
  }
  if (x.empty()) return std::nullopt;
  if (spec.floor && is_drawable(*spec.floor)) {
    y.include(*spec.floor);
    constexpr double kRoomForLabel = 0.06;
    y.low = std::min(y.low, *spec.floor - kRoomForLabel * (y.high - y.low));
  }
  x.widen();
  y.widen();
  Axes axes{.x = round_axis(x.low, x.high, x_ticks), .y = round_axis(y.low, y.high, y_ticks)};
  axes.x.high = x.high;
  return axes;
}

bool has_resumes(const PlotSpec& spec) {
  return std::ranges::any_of(spec.curves, [](const Curve& c) { return !c.resumes.empty(); });
}

std::vector<double> resume_places(const Curve& curve, const Axis& x, int columns) {
  std::vector<double> places;
  std::vector<bool> taken(static_cast<std::size_t>(columns), false);
  for (const double step : curve.resumes) {
    const double place = x.fraction(step);
    if (!(place >= 0 && place <= 1)) continue;
    const auto column = static_cast<std::size_t>(std::min(place * columns, columns - 1.0));
    if (!taken[column]) places.push_back(place);
    taken[column] = true;
  }
  std::ranges::sort(places);
  return places;
}

std::vector<Column> thin(const Curve& curve, const Axis& x, int columns) {
  const Column empty{.x = 0,
                     .mean = 0,
                     .low = std::numeric_limits<double>::infinity(),
                     .high = -std::numeric_limits<double>::infinity(),
                     .count = 0};
  std::vector<Column> all(static_cast<std::size_t>(columns), empty);
  for (std::size_t i = 0; i < curve.x.size(); ++i) {
    if (!is_drawable(curve, i)) continue;
    const double place = x.fraction(curve.x[i]) * columns;
    Column& column = all[static_cast<std::size_t>(std::clamp(place, 0.0, columns - 1.0))];
    ++column.count;
    const double share = 1.0 / static_cast<double>(column.count);
    column.x += (curve.x[i] - column.x) * share;
    column.mean += (curve.y[i] - column.mean) * share;
    column.low = std::min(column.low, curve.y[i]);
    column.high = std::max(column.high, curve.y[i]);
  }
  std::erase_if(all, [](const Column& column) { return column.count == 0; });
  return all;
}

std::vector<Column> smooth(const std::vector<Column>& columns, int reach) {
  std::vector<Column> smoothed = columns;
  const auto size = static_cast<int>(columns.size());
  for (int i = 0; i < size; ++i) {
    const int near = std::min(reach, i / 3);
    double sum = 0, weight = 0;
    for (int j = i - near; j <= std::min(i + near, size - 1); ++j) {
      const Column& column = columns[static_cast<std::size_t>(j)];
      sum += column.mean * static_cast<double>(column.count);
      weight += static_cast<double>(column.count);
    }
    smoothed[static_cast<std::size_t>(i)].mean = sum / weight;
  }
  return smoothed;
}

}  // namespace lathe
