// Rounding other than to nearest.
#pragma once

#include <cfenv>

namespace lathe::ptx {

// Sets the direction while it lives. Compilers know nothing of the mode: what is computed meanwhile
// must come from and go through opaque().
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

template <class T>
T opaque(T value) {
  volatile T copy = value;
  return copy;
}

}  // namespace lathe::ptx
