#include "progress_bar.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace lathe {
namespace {

// The last column stays free: a character there makes some terminals begin a new line.
int terminal_columns() {
  constexpr int kUnknown = 80, kFewest = 20;
  if (::isatty(STDERR_FILENO) != 1) return 0;
  winsize size{};
  const bool is_known = ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col >= kFewest;
  return (is_known ? size.ws_col : kUnknown) - 1;
}

}  // namespace

std::string progress_line(int columns, std::optional<double> done, const std::string& facts) {
  constexpr int kMostMarks = 30, kFewestMarks = 5;
  std::string line = facts;
  if (done) {
    const double share = std::clamp(*done, 0.0, 1.0);
    const std::string percent = fmt::format("{:3.0f} % | {}", 100 * share, facts);
    const int marks = std::min(kMostMarks, columns - static_cast<int>(percent.size()) - 3);
    line = percent;
    if (marks >= kFewestMarks) {
      const auto full = static_cast<int>(share * marks);
      line = fmt::format("[{:#<{}}{:-<{}}] {}", "", full, "", marks - full, percent);
    }
  }
  return line.substr(0, static_cast<std::size_t>(columns));
}

ProgressBar::ProgressBar(bool wanted) : columns_(wanted ? terminal_columns() : 0) {}

ProgressBar::~ProgressBar() {
  if (columns_ > 0) std::fputs(fmt::format("\r{:{}}\r", "", columns_).c_str(), stderr);
}

bool ProgressBar::is_due() {
  constexpr std::chrono::milliseconds kBetween(100);
  return columns_ > 0 && std::chrono::steady_clock::now() - shown_ >= kBetween;
}

void ProgressBar::show(std::optional<double> done, const std::string& facts) {
  shown_ = std::chrono::steady_clock::now();
  const std::string line = progress_line(columns_, done, facts);
  std::fputs(fmt::format("\r{:<{}}", line, columns_).c_str(), stderr);
  std::fflush(stderr);
}

}  // namespace lathe
