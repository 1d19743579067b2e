// How much memory this process takes.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <fstream>
#include <string>
#include <thread>

namespace lathe::test {

// Memory of this process that is no file's.
inline std::int64_t anonymous_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    if (word != "RssAnon:") continue;
    std::int64_t kilobytes = 0;
    status >> kilobytes;
    return kilobytes * 1024;
  }
  return 0;
}

template <class Work>
std::int64_t peak_anonymous_bytes(const Work& work) {
  std::atomic<std::int64_t> peak = 0;
  const std::jthread watcher([&peak](const std::stop_token& end) {
    while (!end.stop_requested()) {
      peak = std::max<std::int64_t>(peak, anonymous_bytes());
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
  });
  work();
  return peak;
}

}  // namespace lathe::test
