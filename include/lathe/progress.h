// How far something long has come, for whoever watches it on a terminal.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

namespace lathe {

using Progress = std::function<void(std::int64_t done, std::int64_t all)>;

// A line on stderr that is written over again and again and is gone when this is; nothing at all
// where stderr is no terminal.
class ProgressLine {
 public:
  explicit ProgressLine(std::string name);
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;
  ~ProgressLine();

  void show(std::int64_t done, std::int64_t all);

 private:
  using Clock = std::chrono::steady_clock;

  std::string name_;
  bool is_terminal_;
  Clock::time_point started_ = Clock::now(), shown_ = started_;
};

}  // namespace lathe
