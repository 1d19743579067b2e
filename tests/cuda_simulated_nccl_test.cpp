// The stand-in for NCCL (ptx_machine/): what its collectives give.
#include <algorithm>
#include <cmath>

#include "lathe/bf16.h"
#include "support/nccl_rank.h"

namespace lathe::test {
namespace {

// Such that the order of a sum shows.
std::vector<float> floats_of(int rank, std::size_t count) {
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i)
    values[i] = std::sin(static_cast<float>(i + 1) * (1.3f + static_cast<float>(rank)));
  return values;
}

std::vector<float> sum_of_ranks(int ranks, std::size_t count) {
  std::vector<float> sums = floats_of(0, count);
  for (int rank = 1; rank < ranks; ++rank) {
    const std::vector<float> more = floats_of(rank, count);
    for (std::size_t i = 0; i < count; ++i) sums[i] += more[i];
  }
  return sums;
}

std::vector<float> part(const std::vector<float>& values, int number, std::size_t count) {
  const auto begin =
      values.begin() + static_cast<std::ptrdiff_t>(number) * static_cast<std::ptrdiff_t>(count);
  return {begin, begin + static_cast<std::ptrdiff_t>(count)};
}

using Nccl = SeveralDevices;

constexpr std::size_t kCount = 1001, kLong = 100'000;  // the latter takes several slots

TEST_F(Nccl, ReducesInTheOrderOfRanks) {
  for (const int ranks : {1, 2, 4}) {
    for (const std::size_t count : {kCount, kLong}) {
      on_ranks(ranks, [&](const NcclRank& rank) {
        const OnDevice<float> in(floats_of(rank.number, count));
        const OnDevice<float> out(std::vector<float>(count, -1));
        rank.finish(ncclAllReduce(in.data(), out.data(), count, ncclFloat32, ncclSum,
                                  rank.communicator, rank.stream));
        EXPECT_EQ(out.values(), sum_of_ranks(ranks, count));
        const OnDevice<float> last(std::vector<float>(count, -1));
        rank.finish(ncclReduce(in.data(), last.data(), count, ncclFloat32, ncclSum, ranks - 1,
                               rank.communicator, rank.stream));
        EXPECT_EQ(last.values(), rank.number == ranks - 1 ? sum_of_ranks(ranks, count)
                                                          : std::vector<float>(count, -1));
      });
    }
  }
}

TEST_F(Nccl, ScattersAndGathersInPlaceAndNot) {
  for (const int ranks : {1, 3, 4}) {
    for (const std::size_t count : {kCount, kLong}) {
      on_ranks(ranks, [&](const NcclRank& rank) {
        const std::size_t whole = count * static_cast<std::size_t>(ranks);
        const std::vector<float> sums = sum_of_ranks(ranks, whole);
        const OnDevice<float> in(floats_of(rank.number, whole));
        const OnDevice<float> out(std::vector<float>(count, -1));
        rank.finish(ncclReduceScatter(in.data(), out.data(), count, ncclFloat32, ncclSum,
                                      rank.communicator, rank.stream));
        EXPECT_EQ(out.values(), part(sums, rank.number, count));
        float* own = in.data() + count * static_cast<std::size_t>(rank.number);
        rank.finish(ncclReduceScatter(in.data(), own, count, ncclFloat32, ncclSum,
                                      rank.communicator, rank.stream));
        EXPECT_EQ(part(in.values(), rank.number, count), part(sums, rank.number, count));
        rank.finish(
            ncclAllGather(own, in.data(), count, ncclFloat32, rank.communicator, rank.stream));
        EXPECT_EQ(in.values(), sums);
        const OnDevice<float> gathered(std::vector<float>(whole, -1));
        rank.finish(ncclAllGather(out.data(), gathered.data(), count, ncclFloat32,
                                  rank.communicator, rank.stream));
        EXPECT_EQ(gathered.values(), sums);
      });
    }
  }
}

TEST_F(Nccl, BroadcastsAndTakesOtherTypes) {
  on_ranks(3, [](const NcclRank& rank) {
    const OnDevice<std::uint8_t> text({static_cast<std::uint8_t>(rank.number + 7), 9});
    rank.finish(
        ncclBroadcast(text.data(), text.data(), 2, ncclUint8, 2, rank.communicator, rank.stream));
    EXPECT_EQ(text.values(), (std::vector<std::uint8_t>{9, 9}));
    const OnDevice<double> number({rank.number == 1 ? 1e300 : -rank.number});
    rank.finish(ncclAllReduce(number.data(), number.data(), 1, ncclFloat64, ncclMax,
                              rank.communicator, rank.stream));
    EXPECT_EQ(number.values().front(), 1e300);
    // 256 + 1 + 1 in bf16: each 1 is lost, as it would not be in a sum of fp32.
    const OnDevice<Bf16> half({to_bf16(rank.number == 0 ? 256.0f : 1.0f)});
    rank.finish(ncclAllReduce(half.data(), half.data(), 1, ncclBfloat16, ncclSum, rank.communicator,
                              rank.stream));
    EXPECT_EQ(to_float(half.values().front()), 256.0f);
  });
}

TEST_F(Nccl, GroupsPartsOfEveryLength) {
  on_ranks(3, [](const NcclRank& rank) {
    const std::vector<std::size_t> counts = {5, 0, 7};  // of each rank's part
    const OnDevice<float> values(floats_of(rank.number, 12));
    ncclGroupStart();
    for (int root = 0, begin = 0; root < 3; ++root) {
      float* part = values.data() + begin;
      EXPECT_EQ(ncclReduce(part, part, counts[static_cast<std::size_t>(root)], ncclFloat32, ncclSum,
                           root, rank.communicator, rank.stream),
                ncclSuccess);
      begin += static_cast<int>(counts[static_cast<std::size_t>(root)]);
    }
    rank.finish(ncclGroupEnd());
    std::vector<float> expected = floats_of(rank.number, 12);
    const std::vector<float> sums = sum_of_ranks(3, 12);
    if (rank.number == 0) std::copy(sums.begin(), sums.begin() + 5, expected.begin());
    if (rank.number == 2) std::copy(sums.begin() + 5, sums.end(), expected.begin() + 5);
    EXPECT_EQ(values.values(), expected);
  });
}

// As a program that lets NCCL block has it.
TEST_F(Nccl, BlocksWhenItMay) {
  const ncclUniqueId id = new_id();
  const auto run = [&](int number) {
    cudaSetDevice(number);
    ncclComm_t communicator = nullptr;
    ASSERT_EQ(ncclCommInitRankConfig(&communicator, 2, id, number, nullptr), ncclSuccess);
    const OnDevice<float> value({1.0f + static_cast<float>(number)});
    EXPECT_EQ(
        ncclAllReduce(value.data(), value.data(), 1, ncclFloat32, ncclSum, communicator, nullptr),
        ncclSuccess);
    EXPECT_EQ(value.values().front(), 3);  // cudaMemcpy is on the null stream as well
    EXPECT_EQ(ncclCommFinalize(communicator), ncclSuccess);
    EXPECT_EQ(ncclCommDestroy(communicator), ncclSuccess);
  };
  std::thread other([&] { run(1); });
  run(0);
  other.join();
}

}  // namespace
}  // namespace lathe::test
