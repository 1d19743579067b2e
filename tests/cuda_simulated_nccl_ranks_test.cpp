// Ranks on the GPUs of the PTX machine, threads of this test: what they say to each other through
// NCCL's stand-in, and how they end that are late or have failed. Runs of the program are in
// cuda_simulated_nccl_runs_test.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <mutex>
#include <numeric>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "lathe/commands.h"
#include "lathe/cuda.h"
#include "lathe/error.h"
#include "lathe/join_ranks.h"
#include "lathe/stop_signal.h"
#include "ptx_machine/runtime_state.h"
#include "support/device_tensors.h"
#include "support/error_of.h"
#include "support/small_run.h"

namespace lathe::test {
namespace {

constexpr int kGpus = 4;

Options gpus(int count, const std::string& timeout = "60s") {
  Options options = default_options();
  options.gpus = count;
  options.rank_timeout = timeout;
  return options;
}

// The exit code of ranks of which each has a backend; 99 of one that throws.
int run_on_gpus(const Options& options, const std::function<void(Communicator&, Backend&)>& work) {
  return run_in_threads(ranks_of_process(options), [&](Communicator& communicator) {
    std::optional<Failure> failure;
    try {
      const auto backend = make_cuda_backend({});
      communicator.attach(*backend);
      try {
        work(communicator, *backend);
      } catch (...) {
        communicator.abandon();
        throw;
      }
    } catch (const std::exception&) {
      failure = current_failure();
    }
    communicator.leave(failure);
    return failure ? static_cast<int>(failure->code) : 0;
  });
}

std::vector<float> values_of(int rank, std::int64_t count) {
  return normal_floats(count, static_cast<std::uint64_t>(rank) + 1, rank % 2 == 0 ? 1e3f : 1e-3f);
}

std::vector<float> sums_of(int ranks, std::int64_t count) {
  std::vector<float> sums = values_of(0, count);
  for (int rank = 1; rank < ranks; ++rank) {
    const std::vector<float> more = values_of(rank, count);
    std::ranges::transform(sums, more, sums.begin(), std::plus{});
  }
  return sums;
}

// Equal parts, or others of which some are empty, of the elements behind the first 64.
std::vector<ElementRange> parts_for(int ranks, bool are_equal) {
  constexpr std::int64_t kFirst = 64, kEach = 192;
  std::vector<ElementRange> parts;
  std::int64_t at = kFirst;
  for (int rank = 0; rank < ranks; ++rank) {
    const std::int64_t size = are_equal || rank == 0 ? kEach : rank % 2 == 0 ? 5 : 0;
    parts.push_back({at, at + size});
    at += size;
  }
  return parts;
}

class OnGpus : public testing::Test {
 protected:
  void SetUp() override {
    ptx::runtime().visible.resize(kGpus);
    std::iota(ptx::runtime().visible.begin(), ptx::runtime().visible.end(), 0);
  }
};

class GpuRanks : public OnGpus, public testing::WithParamInterface<int> {};

TEST_P(GpuRanks, AddUpTheirParts) {
  const int ranks = GetParam();
  for (const bool are_equal : {true, false}) {
    const std::vector<ElementRange> parts = parts_for(ranks, are_equal);
    const std::int64_t count = parts.back().end + 7;
    const std::vector<float> expected = sums_of(ranks, count);
    EXPECT_EQ(run_on_gpus(gpus(ranks),
                          [&](Communicator& communicator, Backend& backend) {
                            const std::vector<float> own = values_of(communicator.rank(), count);
                            const DeviceTensor values =
                                to_device(backend, DType::fp32, {count}, own);
                            communicator.start_reduce_scatter(values, parts);
                            communicator.wait();
                            const std::vector<float> found = to_floats(backend, values);
                            const auto [begin, end] =
                                parts[static_cast<std::size_t>(communicator.rank())];
                            for (std::int64_t i = begin; i < end; ++i) {
                              const auto at = static_cast<std::size_t>(i);
                              ASSERT_EQ(found[at], expected[at]) << i;
                            }
                            // Nothing around the parts is touched.
                            EXPECT_EQ(found.front(), own.front());
                            EXPECT_EQ(found.back(), own.back());
                          }),
              0);
  }
}

TEST_P(GpuRanks, GatherTheirPartsInEitherType) {
  const int ranks = GetParam();
  for (const DType type : {DType::fp32, DType::bf16}) {
    for (const bool are_equal : {true, false}) {
      const std::vector<ElementRange> parts = parts_for(ranks, are_equal);
      const std::int64_t count = parts.back().end + 7;
      run_on_gpus(gpus(ranks), [&](Communicator& communicator, Backend& backend) {
        std::vector<float> expected = rounded_to(type, values_of(communicator.rank(), count));
        const DeviceTensor values = to_device(backend, type, {count}, expected);
        for (int rank = 0; rank < ranks; ++rank) {
          const auto [begin, end] = parts[static_cast<std::size_t>(rank)];
          const std::vector<float> theirs = rounded_to(type, values_of(rank, count));
          std::copy(theirs.begin() + begin, theirs.begin() + end, expected.begin() + begin);
        }
        communicator.start_all_gather(values, parts);
        communicator.wait();
        EXPECT_EQ(to_floats(backend, values), expected);
      });
    }
  }
}

TEST_P(GpuRanks, AgreeOnNumbersAndTexts) {
  const int ranks = GetParam();
  constexpr std::size_t kLong = 300'000;  // more than goes at a time
  EXPECT_EQ(run_on_gpus(gpus(ranks),
                        [&](Communicator& communicator, Backend& backend) {
                          const int rank = communicator.rank();
                          EXPECT_FALSE(communicator.is_alone());
                          EXPECT_EQ(communicator.local_size(), ranks);
                          std::vector<double> numbers(50'000, rank + 0.5);
                          numbers.front() = rank == 0 ? 1e300 : 1;
                          communicator.sum(numbers);
                          EXPECT_EQ(numbers.back(), ranks * (ranks - 1) / 2 + 0.5 * ranks);
                          EXPECT_EQ(numbers.front(), 1e300);
                          const DeviceTensor floats =
                              to_device(backend, DType::fp32, {2},
                                        std::vector{static_cast<float>(rank), 0.25f});
                          communicator.sum(floats);
                          EXPECT_EQ(to_floats(backend, floats),
                                    (std::vector{static_cast<float>(ranks * (ranks - 1)) / 2,
                                                 0.25f * static_cast<float>(ranks)}));
                          const std::string own(static_cast<std::size_t>(rank) * kLong + 1,
                                                static_cast<char>('a' + rank));
                          const std::vector<std::string> texts = communicator.gather(own);
                          ASSERT_EQ(std::ssize(texts), ranks);
                          for (std::size_t i = 0; i < texts.size(); ++i) {
                            EXPECT_EQ(texts[i].size(), i * kLong + 1);
                            EXPECT_EQ(texts[i].find_first_not_of(static_cast<char>('a' + i)),
                                      std::string::npos);
                          }
                          EXPECT_EQ(communicator.broadcast(fmt::format("from {}", rank)), "from 0");
                          EXPECT_EQ(communicator.gather("").size(), texts.size());
                          EXPECT_EQ(communicator.largest(rank * 7 - 20), (ranks - 1) * 7 - 20);
                        }),
            0);
}

INSTANTIATE_TEST_SUITE_P(Worlds, GpuRanks, testing::Values(1, 2, 3, 4));

class GpuRankFailure : public OnGpus, public testing::WithParamInterface<int> {};

// How ranks have ended.
struct Ending {
  int exit_code;
  std::set<std::string> failures;
  double seconds;
};

Ending end_of(const Options& options, const std::function<void(Communicator&, Backend&)>& work) {
  Ending ending{};
  std::mutex mutex;
  const double start = now();
  ending.exit_code = run_on_gpus(options, [&](Communicator& communicator, Backend& backend) {
    try {
      work(communicator, backend);
    } catch (const Error& error) {
      const std::lock_guard lock(mutex);
      ending.failures.insert(
          fmt::format("exit {}: {}", static_cast<int>(error.code()), error.what()));
      throw;
    }
  });
  ending.seconds = now() - start;
  return ending;
}

// Some step of a run, in which every rank waits for the others on its GPU.
void step(Communicator& communicator, Backend& backend) {
  const DeviceTensor values = to_device(backend, DType::fp32, {2}, std::vector{1.0f, 2.0f});
  communicator.sum(values);
  to_floats(backend, values);
}

TEST_P(GpuRankFailure, ALateRankIsNamed) {
  const int late = GetParam();
  const Ending ending = end_of(gpus(3, "1s"), [&](Communicator& communicator, Backend& backend) {
    step(communicator, backend);
    if (communicator.rank() == late) {
      std::this_thread::sleep_for(std::chrono::seconds(6));
      return;
    }
    step(communicator, backend);
  });
  EXPECT_EQ(ending.exit_code, 8);
  ASSERT_EQ(ending.failures.size(), 1u);
  const std::string& failure = *ending.failures.begin();
  EXPECT_TRUE(failure.starts_with(fmt::format("exit 8: rank {} on ", late))) << failure;
  EXPECT_TRUE(failure.ends_with("nothing heard for 1 s (--rank-timeout)")) << failure;
}

TEST_P(GpuRankFailure, ARankThatFailsIsNamedWithItsReasonAtOnce) {
  const int failing = GetParam();
  const Ending ending = end_of(gpus(3), [&](Communicator& communicator, Backend& backend) {
    step(communicator, backend);
    if (communicator.rank() == failing) throw Error(ExitCode::data, "shard.bin: is gone");
    step(communicator, backend);
  });
  EXPECT_EQ(ending.exit_code, 3);
  EXPECT_LT(ending.seconds, 5);
  ASSERT_EQ(ending.failures.size(), 2u);  // its own, and what both others say
  EXPECT_EQ(*ending.failures.begin(), "exit 3: shard.bin: is gone");
  const std::string& others = *ending.failures.rbegin();
  EXPECT_TRUE(others.starts_with(fmt::format("exit 8: rank {} on ", failing))) << others;
  EXPECT_TRUE(others.ends_with("failed with exit code 3: shard.bin: is gone")) << others;
}

INSTANTIATE_TEST_SUITE_P(Each, GpuRankFailure, testing::Values(0, 1, 2));

// A rank that fails by itself when it is to send gradients for the n-th time.
class Failing final : public Communicator {
 public:
  Failing(Communicator& rank, int times, double& failed_at)
      : rank_(rank), left_(times), failed_at_(failed_at) {}

  int rank() const override { return rank_.rank(); }
  int size() const override { return rank_.size(); }
  bool is_alone() const override { return rank_.is_alone(); }
  int local_size() const override { return rank_.local_size(); }
  std::string name_of(int rank) const override { return rank_.name_of(rank); }
  void attach(Backend& backend) override { rank_.attach(backend); }
  void start_reduce_scatter(const Tensor& values, std::span<const ElementRange> parts) override {
    if (--left_ == 0) {
      failed_at_ = now();
      throw Error(ExitCode::data, "shard.bin: is gone");
    }
    rank_.start_reduce_scatter(values, parts);
  }
  void start_all_gather(const Tensor& values, std::span<const ElementRange> parts) override {
    rank_.start_all_gather(values, parts);
  }
  void wait() override { rank_.wait(); }
  void abandon() noexcept override { rank_.abandon(); }
  void sum(const Tensor& values) override { rank_.sum(values); }
  void sum(std::span<double> values) override { rank_.sum(values); }
  std::vector<std::string> gather(const std::string& text) override { return rank_.gather(text); }
  void require_others() override { rank_.require_others(); }
  void set_trace(Trace* trace) override { rank_.set_trace(trace); }
  bool leave(const std::optional<Failure>& failure) noexcept override {
    return rank_.leave(failure);
  }

 private:
  Communicator& rank_;
  int left_;
  double& failed_at_;
};

TEST_F(OnGpus, ARunEndsWithTheFailureOfItsThread) {
  const SmallRuns runs("a small text. " + std::string(2000, 'x'));
  for (const int failing : {0, 2}) {
    const std::string name = fmt::format("rank{}", failing);
    const Options options = runs.options(
        name, {"--device=cuda", "--gpus=3", "--steps=50", "--batch-tokens=384", "--overwrite"});
    const StopSignalWatch watch;
    testing::internal::CaptureStderr();
    double failed_at = 0;
    const int exit_code =
        run_in_threads(ranks_of_process(options), [&](Communicator& communicator) {
          if (communicator.rank() != failing) return train_as_rank(options, communicator);
          Failing rank(communicator, /*times=*/5, failed_at);
          return train_as_rank(options, rank);
        });
    EXPECT_EQ(exit_code, 3);
    EXPECT_LT(now() - failed_at, 10);
    const std::string said = testing::internal::GetCapturedStderr();
    EXPECT_TRUE(said.ends_with("shard.bin: is gone\n")) << said;
    EXPECT_EQ(std::ranges::count(said, '\n'), 1) << said;
    EXPECT_EQ(said.starts_with("lathe: rank 2 on "), failing == 2) << said;
    EXPECT_EQ(runs.result(name).at("status"), "failed");
    EXPECT_EQ(runs.result(name).at("exit_code"), failing == 0 ? 3 : 8);
  }
}

TEST_F(OnGpus, RanksAreRefusedWhereTheyCannotBe) {
  const auto refusal = [](Options options) { return error_of([&] { ranks_of_process(options); }); };
  EXPECT_EQ(refusal(gpus(5)),
            "exit 2: --gpus 5: this process sees 4 GPUs; must be at most that, "
            "or all");
  Options on_cpu = gpus(2);
  on_cpu.device = "cpu";
  EXPECT_EQ(refusal(on_cpu),
            "exit 2: --gpus 2: --device is cpu; ranks on the CPU are started by "
            "mpirun or srun");
  EXPECT_EQ(ranks_of_process(gpus(static_cast<int>(kWord))).size(), 4u);
  ptx::runtime().visible.clear();
  EXPECT_EQ(refusal(gpus(static_cast<int>(kWord))),
            "exit 2: --gpus all: no GPU: no CUDA-capable device is detected");
}

}  // namespace
}  // namespace lathe::test
