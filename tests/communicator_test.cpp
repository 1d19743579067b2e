// What ranks say to each other, with threads in the place of processes: sums in their fixed order,
// parts of any size, and how ranks end that are late, stopped, or have failed.
#include "lathe/communicator.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <chrono>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "lathe/error.h"
#include "support/device_tensors.h"
#include "support/error_of.h"
#include "support/thread_ranks.h"

namespace lathe::test {
namespace {

// Values of a rank whose sums depend on the order of the addends.
std::vector<float> values_of(int rank, std::int64_t count) {
  return normal_floats(count, static_cast<std::uint64_t>(rank) + 1, rank % 2 == 0 ? 1e3f : 1e-3f);
}

Tensor tensor_of(std::vector<float>& values) {
  return {values.data(), DType::fp32, {static_cast<std::int64_t>(values.size())}};
}

// Parts of [0, count) whose borders are anywhere, some of them empty.
std::vector<ElementRange> uneven_parts(std::int64_t count, int ranks) {
  std::vector<ElementRange> parts;
  for (int rank = 0; rank < ranks; ++rank) {
    const auto border = [&](std::int64_t i) {
      return i == ranks ? count : count * i / ranks / 5 * 3;
    };
    const bool is_empty = rank % 3 == 1 && rank + 1 < ranks;
    const std::int64_t begin = parts.empty() ? 0 : parts.back().end;
    parts.push_back({begin, is_empty ? begin : border(rank + 1)});
  }
  return parts;
}

class Ranks : public testing::TestWithParam<int> {};

TEST_P(Ranks, AddUpTheirPartsInTheOrderOfRanks) {
  const int ranks = GetParam();
  for (const std::int64_t count : {1, 1000, 700'001}) {
    std::vector<float> expected = values_of(0, count);
    for (int rank = 1; rank < ranks; ++rank) {
      const std::vector<float> more = values_of(rank, count);
      for (std::size_t i = 0; i < more.size(); ++i) expected[i] += more[i];
    }
    const std::vector<ElementRange> parts = uneven_parts(count, ranks);
    ASSERT_EQ(parts.back().end, count);
    run_ranks(ranks, [&](Communicator& communicator) {
      std::vector<float> values = values_of(communicator.rank(), count);
      communicator.start_reduce_scatter(tensor_of(values), parts);
      communicator.wait();
      const auto [begin, end] = parts[static_cast<std::size_t>(communicator.rank())];
      int wrong = 0;
      for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i) {
        if (values[i] != expected[i]) ++wrong;
      }
      EXPECT_EQ(wrong, 0) << "rank " << communicator.rank() << " of " << ranks << ", " << count;
    });
  }
}

TEST_P(Ranks, GatherTheirParts) {
  const int ranks = GetParam();
  constexpr std::int64_t kCount = 1003;
  const std::vector<ElementRange> parts = uneven_parts(kCount, ranks);
  std::vector<float> expected(kCount);
  for (int rank = 0; rank < ranks; ++rank) {
    const auto [begin, end] = parts[static_cast<std::size_t>(rank)];
    const std::vector<float> of_rank = values_of(rank, kCount);
    std::copy(of_rank.begin() + begin, of_rank.begin() + end, expected.begin() + begin);
  }
  run_ranks(ranks, [&](Communicator& communicator) {
    std::vector<float> values = values_of(communicator.rank(), kCount);
    communicator.start_all_gather(tensor_of(values), parts);
    communicator.wait();
    EXPECT_EQ(values, expected);
  });
}

TEST_P(Ranks, AgreeOnNumbersAndTexts) {
  const int ranks = GetParam();
  run_ranks(ranks, [&](Communicator& communicator) {
    const int rank = communicator.rank();
    std::vector<double> numbers = {rank + 0.5, rank == 0 ? 1e300 : 1.0};
    communicator.sum(numbers);
    EXPECT_EQ(numbers[0], ranks * (ranks - 1) / 2 + 0.5 * ranks);
    std::vector<float> floats = {static_cast<float>(rank), 0.25f};
    communicator.sum(tensor_of(floats));
    EXPECT_EQ(floats, (std::vector<float>{static_cast<float>(ranks * (ranks - 1)) / 2,
                                          0.25f * static_cast<float>(ranks)}));
    const auto texts = communicator.gather(std::string(static_cast<std::size_t>(rank) * 3, 'x'));
    ASSERT_EQ(std::ssize(texts), ranks);
    for (std::size_t i = 0; i < texts.size(); ++i) EXPECT_EQ(texts[i].size(), i * 3);
    EXPECT_EQ(communicator.broadcast(fmt::format("from {}", rank)), "from 0");
    EXPECT_EQ(communicator.largest(rank * 7 - 20), (ranks - 1) * 7 - 20);
    EXPECT_TRUE(communicator.any(rank == ranks - 1));
    EXPECT_FALSE(communicator.any(false));
    EXPECT_EQ(communicator.local_size(), ranks);
  });
}

TEST_P(Ranks, FailTogether) {
  const int ranks = GetParam();
  const auto fails = [&](int rank) { return rank >= ranks - 2; };
  std::mutex mutex;
  std::set<std::string> said;
  run_ranks(ranks, [&](Communicator& communicator) {
    const int rank = communicator.rank();
    const std::string message = error_of([&] {
      do_together(communicator, [&] {
        if (fails(rank)) throw Error(ExitCode::data, fmt::format("no data {}", rank));
      });
    });
    do_together(communicator, [] {});  // and go on
    const std::lock_guard lock(mutex);
    said.insert(message);
  });
  const int first = std::max(0, ranks - 2);
  EXPECT_EQ(said, std::set<std::string>{
                      first == 0 ? "exit 3: no data 0"
                                 : fmt::format("exit 3: rank {}: no data {}", first, first)});
}

INSTANTIATE_TEST_SUITE_P(Worlds, Ranks, testing::Values(1, 2, 3, 4, 8));

TEST(RankFailure, ALateRankIsNamed) {
  constexpr int kLate = 2;
  const auto run = [&] {
    run_ranks(
        4,
        [&](Communicator& communicator) {
          communicator.barrier();
          if (communicator.rank() == kLate) {
            std::this_thread::sleep_for(std::chrono::milliseconds(1500));
            return;
          }
          const std::string failure = error_of([&] {
            std::vector<float> values(256);
            const std::vector<ElementRange> parts = {{0, 64}, {64, 128}, {128, 192}, {192, 256}};
            communicator.start_reduce_scatter(tensor_of(values), parts);
            communicator.wait();
          });
          EXPECT_TRUE(failure.starts_with("exit 8: rank 2")) << failure;
          EXPECT_NE(failure.find("nothing heard for 0.3 s (--rank-timeout)"), failure.npos)
              << failure;
          EXPECT_EQ(failure.find("rank 1"), failure.npos) << failure;
          throw Error(ExitCode::peer, failure.substr(std::string("exit 8: ").size()));
        },
        0.3);
  };
  EXPECT_FALSE(error_of(run).empty());
}

TEST(RankFailure, ARankThatFailsIsNamedWithItsReasonAtOnce) {
  const double start = now();
  const auto run = [&] {
    run_ranks(3, [&](Communicator& communicator) {
      if (communicator.rank() == 1) throw Error(ExitCode::data, "shard.bin: is gone");
      const std::string failure = error_of([&] { communicator.barrier(); });
      EXPECT_TRUE(failure.starts_with("exit 8: rank 1")) << failure;
      EXPECT_TRUE(failure.ends_with("failed with exit code 3: shard.bin: is gone")) << failure;
      throw Error(ExitCode::peer, failure);
    });
  };
  EXPECT_FALSE(error_of(run).empty());
  EXPECT_LT(now() - start, 5);
}

}  // namespace
}  // namespace lathe::test
