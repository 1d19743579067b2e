#pragma once

#include <filesystem>

namespace lathe {

// The CPUs that the cgroups of this process (v1 or v2, and all their parents) allow it in time,
// rounded up; 0 when none of them sets a quota. `root` is "/" but in tests.
int cgroup_cpu_quota(const std::filesystem::path& root);

}  // namespace lathe
