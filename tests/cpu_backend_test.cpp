// The CPU backend's memory, its name, and how many threads it may use.
#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "../kernels/cpu/available_threads.h"
#include "lathe/backend.h"
#include "lathe/error.h"
#include "support/device_tensors.h"

namespace lathe::test {
namespace {

namespace fs = std::filesystem;

TEST(CpuBackend, MemoryIsZeroAlignedAndHoldsWhatIsUploaded) {
  const auto backend = make_cpu_backend(1);
  for (const std::int64_t count : {1, 1000, 3000001}) {
    const DeviceTensor tensor = zeros(*backend, DType::fp32, {count});
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(tensor.tensor().data()) % 64, 0u);
    EXPECT_EQ(to_floats(*backend, tensor), std::vector<float>(static_cast<std::size_t>(count)));
    const std::vector<float> values = normal_floats(count, 1);
    backend->upload(tensor, values.data());
    EXPECT_EQ(to_floats(*backend, tensor), values);
  }
  EXPECT_NE(backend->allocate(0), nullptr);
}

TEST(CpuBackend, TooMuchMemoryIsAnErrorWithItsSize) {
  const auto backend = make_cpu_backend(1);
  for (const std::int64_t bytes : {std::int64_t{1} << 60, INT64_MAX}) {
    try {
      backend->allocate(bytes);
      FAIL() << "allocated " << bytes;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::out_of_memory);
      EXPECT_NE(std::string(error.what()).find(std::to_string(bytes)), std::string::npos)
          << error.what();
    }
  }
}

TEST(CpuBackend, SaysWhatItIs) {
  EXPECT_EQ(make_cpu_backend(1)->description().find("cpu, 1 thread, avx"), 0u);
  EXPECT_EQ(make_cpu_backend(3)->description().find("cpu, 3 threads, avx"), 0u);
}

// Samples that are made together are those that are made alone: kernels/cpu/few_rows.h.
TEST(CpuBackend, AFewRowsThroughALinearLayerDoNotChangeEachOther) {
  constexpr std::int64_t I = 100, O = 67, N = 8;
  const auto backend = make_cpu_backend(2);
  for (const DType type : {DType::fp32, DType::bf16}) {
    const DeviceTensor weight = to_device(*backend, type, {O, I}, normal_floats(O * I, 1));
    const DeviceTensor x = to_device(*backend, type, {N, I}, normal_floats(N * I, 2));
    const auto outputs = [&](std::int64_t first, std::int64_t rows) {
      const DeviceTensor out = zeros(*backend, type, {rows, O});
      backend->run(LinearForward{.out = out,
                                 .pre_gelu = {},
                                 .x = x.tensor().slice(first, rows),
                                 .weight = weight,
                                 .bias = {},
                                 .residual = {}});
      return to_floats(*backend, out);
    };
    const std::vector<float> all = outputs(0, N);
    for (std::int64_t rows = 1; rows < N; ++rows) {
      for (std::int64_t first = 0; first + rows <= N; ++first) {
        const auto begin = all.begin() + first * O;
        EXPECT_EQ(outputs(first, rows), std::vector<float>(begin, begin + rows * O)) << rows;
      }
    }
  }
}

TEST(AvailableThreads, FollowsTheAffinityMask) {
  cpu_set_t before;
  ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
  EXPECT_GE(available_threads(), 1);
  EXPECT_LE(available_threads(), CPU_COUNT(&before));
  cpu_set_t one;
  CPU_ZERO(&one);
  int first = 0;
  while (!CPU_ISSET(first, &before)) ++first;
  CPU_SET(first, &one);
  ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
  EXPECT_EQ(available_threads(), 1);
  ASSERT_EQ(sched_setaffinity(0, sizeof before, &before), 0);
}

// A made-up root of the file system.
class CgroupQuota : public testing::Test {
 protected:
  CgroupQuota() {
    root_ = fs::temp_directory_path() / ("lathe_cgroup_" + std::to_string(getpid()));
    fs::remove_all(root_);
  }
  ~CgroupQuota() override { fs::remove_all(root_); }

  void write(const std::string& path, const std::string& text) const {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text << '\n';
  }
  void v1(const std::string& folder, const std::string& quota) const {
    write("sys/fs/cgroup/cpu/" + folder + "cpu.cfs_quota_us", quota);
    write("sys/fs/cgroup/cpu/" + folder + "cpu.cfs_period_us", "100000");
  }
  int quota() const { return cgroup_cpu_quota(root_); }

  fs::path root_;
};

TEST_F(CgroupQuota, NoneWithoutCgroups) {
  EXPECT_EQ(quota(), 0);
}

TEST_F(CgroupQuota, Version2TakesTheTightestOfAllParentsRoundedUp) {
  write("proc/self/cgroup", "0::/box/inner");
  write("sys/fs/cgroup/box/inner/cpu.max", "max 100000");
  EXPECT_EQ(quota(), 0);
  write("sys/fs/cgroup/box/cpu.max", "250000 100000");
  EXPECT_EQ(quota(), 3);
  write("sys/fs/cgroup/box/inner/cpu.max", "20000 10000");
  EXPECT_EQ(quota(), 2);
  write("sys/fs/cgroup/cpu.max", "50000 100000");
  EXPECT_EQ(quota(), 1);
}

TEST_F(CgroupQuota, Version1FindsTheCpuController) {
  write("proc/self/cgroup", "5:cpuset:/other\n4:cpu,cpuacct:/box\n0::/");
  v1("", "-1");
  v1("other/", "100000");
  EXPECT_EQ(quota(), 0);
  v1("box/", "400000");
  EXPECT_EQ(quota(), 4);
}

// Inside a container without its own view of cgroups the path is the host's, and does not exist.
TEST_F(CgroupQuota, FallsBackToTheRootOfTheMount) {
  write("proc/self/cgroup", "4:cpu,cpuacct:/docker/0123abcd");
  v1("", "150000");
  EXPECT_EQ(quota(), 2);
}

}  // namespace
}  // namespace lathe::test
