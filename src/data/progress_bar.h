// How far something long has come, in one line of a terminal that is written over again and again
// and is gone at the end. Where stderr is no terminal there is nothing at all. It has no colours,
// so NO_COLOR changes nothing.
#pragma once

#include <chrono>
#include <optional>
#include <string>

namespace lathe {

class ProgressBar {
 public:
  explicit ProgressBar(bool wanted);  // false: --quiet
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;
  ~ProgressBar();

  // Whether a line is due: there is a terminal, and the last one is old enough.
  bool is_due();
  void show(std::optional<double> done, const std::string& facts);

 private:
  int columns_;  // of the terminal; 0: there is none
  std::chrono::steady_clock::time_point shown_{};
};

// "[#####-----]  50 % | facts" or, where the end is not known, "facts", in at most `columns`
// columns.
std::string progress_line(int columns, std::optional<double> done, const std::string& facts);

}  // namespace lathe
