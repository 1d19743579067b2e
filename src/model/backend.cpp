#include "lathe/backend.h"

namespace lathe {

SteadyTime Backend::synchronized_now() {
  synchronize();
  return std::chrono::steady_clock::now();
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
