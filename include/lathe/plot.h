// Loss curves of runs, drawn as text for a terminal, as a self-contained SVG and as a page to look
// into them.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace lathe {

struct Curve {
  // line: many noisy values, drawn smoothed. points: few and exact, each one marked.
  enum class Mark { line, points };

  std::string name;
  std::vector<double> x, y;  // of one length; a point that is not finite is left out
  Mark mark = Mark::line;
  int colour = 0;  // curves of one colour belong together; used modulo the palette's size
  std::vector<double> resumes = {};  // x where the run went on; marked on the axis
};

struct PlotSpec {
  std::string title, x_label, y_label;
  std::vector<Curve> curves;
  std::optional<double> floor;  // a dashed line across the picture
  std::string floor_label;
};

// Plain UTF-8 without control codes: `rows` lines of at most `columns` characters, each closed (at
// least 40 by 10 are used; a long legend takes its lines from the field, down to 4). Two lines when
// there is nothing to draw.
std::string plot_terminal(const PlotSpec& spec, int columns, int rows);

// Follows the reader's light or dark mode. Its size does not grow with the number of points.
std::string plot_svg(const PlotSpec& spec);

// A page that needs nothing but itself and a browser: zoom, values under the pointer, smoothing,
// and a legend that hides and shows all curves of a colour. It takes at most 20,000 points of a
// curve; of a longer one, the means of as many parts.
std::string plot_html(const PlotSpec& spec);

// "train/loss" and "val/loss" over "step" of a run's metrics.jsonl, given the folder or the file;
// a curve without a value is left out. null, which stands for a value that was not finite, becomes
// NaN. The first curve has the run's resumes. A last line that a kill cut short is ignored. Throws
// Error(data) naming file and line.
std::vector<Curve> read_curves(const std::string& path);

}  // namespace lathe
