// Rounding other than to nearest.
#pragma once

#include <cfenv>

namespace lathe::ptx {

// Sets the direction while it lives. What is computed meanwhile must come from and go to volatile
// variables: compilers know nothing of the mode.
class RoundingDirection {
 public:
  explicit RoundingDirection(int direction) : before_(std::fegetround()) {
    std::fesetround(direction);
  }
  ~RoundingDirection() { std::fesetround(before_); }
  RoundingDirection(const RoundingDirection&) = delete;
  RoundingDirection& operator=(const RoundingDirection&) = delete;

 private:
  int before_;
};

}  // namespace lathe::ptx
