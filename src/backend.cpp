#include "lathe/backend.h"

#include <chrono>

namespace lathe {

double Backend::synchronized_now() {
  synchronize();
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

}  // namespace lathe
