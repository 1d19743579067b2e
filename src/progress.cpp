#include "lathe/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <utility>

namespace lathe {
namespace {

constexpr const char* kClearLine = "\r\x1b[K";
constexpr std::chrono::milliseconds kBetweenLines(200);

}  // namespace

ProgressLine::ProgressLine(std::string name)
    : name_(std::move(name)), is_terminal_(::isatty(STDERR_FILENO) == 1) {}

ProgressLine::~ProgressLine() {
  if (is_terminal_) std::fputs(kClearLine, stderr);
}

void ProgressLine::show(std::int64_t done, std::int64_t all) {
  const Clock::time_point now = Clock::now();
  if (!is_terminal_ || done == 0 || now - shown_ < kBetweenLines) return;
  shown_ = now;
  const double share = static_cast<double>(done) / static_cast<double>(all);
  const std::chrono::duration<double> elapsed = now - started_;
  std::fputs(fmt::format("{}{} {:.0f} % | {:.0f} s left", kClearLine, name_, 100 * share,
                         elapsed.count() * (1 / share - 1))
                 .c_str(),
             stderr);
}

}  // namespace lathe
