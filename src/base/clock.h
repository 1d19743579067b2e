// Time that only goes forward, for how long things take.
#pragma once

#include <chrono>

namespace lathe {

// Seconds since some moment before this process began.
inline double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace lathe
