#include "lathe/backend.h"

#include <chrono>

namespace lathe {

double Backend::synchronized_now() {
  synchronize();
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

void Backend::start_profiling() {
  synchronize();
  set_profiler(true);
  is_profiled_ = true;
}

void Backend::stop_profiling() {
  synchronize();
  set_profiler(false);
  is_profiled_ = false;
}

}  // namespace lathe
