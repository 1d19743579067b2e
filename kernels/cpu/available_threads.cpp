// How many threads can run at once: a container often grants less than the machine has, and more
// threads than that only wait for each other.
#include "available_threads.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <sstream>
#include <string>

#include "lathe/backend.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

// Smallest quota/period that read(folder) finds from root/path up to root; 0 when there is none.
template <class Read>
double smallest_quota(const fs::path& root, const fs::path& path, const Read& read) {
  double smallest = 0;
  for (fs::path part = path.relative_path();; part = part.parent_path()) {
    const double cpus = read(root / part);
    if (cpus > 0 && (smallest == 0 || cpus < smallest)) smallest = cpus;
    if (part.empty()) return smallest;
  }
}

double read_number(const fs::path& file) {
  double value = 0;
  std::ifstream(file) >> value;
  return value;
}

double quota_v1(const fs::path& folder) {  // a quota of -1 is none
  const double period = read_number(folder / "cpu.cfs_period_us");
  return period > 0 ? read_number(folder / "cpu.cfs_quota_us") / period : 0;
}

double quota_v2(const fs::path& folder) {  // "150000 100000" or "max 100000"
  double quota = 0, period = 0;
  std::ifstream(folder / "cpu.max") >> quota >> period;
  return period > 0 ? quota / period : 0;
}

bool has_word(const std::string& list, const std::string& word) {
  std::istringstream words(list);
  for (std::string each; std::getline(words, each, ',');) {
    if (each == word) return true;
  }
  return false;
}

}  // namespace

int cgroup_cpu_quota(const fs::path& root) {
  const fs::path mounts = root / "sys/fs/cgroup";
  double smallest = 0;
  std::ifstream groups(root / "proc/self/cgroup");  // lines "4:cpu,cpuacct:/path" or "0::/path"
  for (std::string line; std::getline(groups, line);) {
    std::istringstream fields(line);
    std::string id, controllers, path;
    std::getline(fields, id, ':');
    std::getline(fields, controllers, ':');
    std::getline(fields, path);
    double cpus = 0;
    if (controllers.empty()) {
      cpus = smallest_quota(mounts, path, quota_v2);
    } else if (has_word(controllers, "cpu")) {
      cpus = smallest_quota(mounts / "cpu", path, quota_v1);
    }
    if (cpus > 0 && (smallest == 0 || cpus < smallest)) smallest = cpus;
  }
  return static_cast<int>(std::ceil(smallest));
}

int available_threads() {
  // The kernel refuses a mask shorter than its own: grow until it fits.
  for (int cpus = 1024; cpus <= 1 << 20; cpus *= 2) {
    cpu_set_t* mask = CPU_ALLOC(static_cast<std::size_t>(cpus));
    const std::size_t bytes = CPU_ALLOC_SIZE(static_cast<std::size_t>(cpus));
    const bool fits = sched_getaffinity(0, bytes, mask) == 0;
    const int allowed = fits ? CPU_COUNT_S(bytes, mask) : 0;
    CPU_FREE(mask);
    if (!fits) continue;
    const int quota = cgroup_cpu_quota("/");
    return std::max(1, quota > 0 ? std::min(allowed, quota) : allowed);
  }
  return 1;
}

}  // namespace lathe
