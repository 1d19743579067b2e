// How parameters are shared out among ranks, and that the optimizer on its parts makes the very
// values that it makes alone.
#include "lathe/sharding.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstring>
#include <mutex>
#include <vector>

#include "lathe/adamw.h"
#include "lathe/model.h"
#include "support/compare.h"
#include "support/device_tensors.h"
#include "support/test_device.h"
#include "support/thread_ranks.h"

namespace lathe::test {
namespace {

constexpr ModelConfig kConfig = {
    .layers = 3, .heads = 1, .channels = 24, .context = 10, .vocab = 57};

TEST(Sharding, PartsAreAllElementsOnceAndAsEqualAsTheyCanBe) {
  const std::vector<ParameterSpec> specs = parameter_specs(kConfig);
  for (const int ranks : {1, 2, 3, 4, 7, 8, 64, 1000}) {
    const std::vector<Bucket> buckets = make_buckets(specs, ranks);
    ASSERT_EQ(std::ssize(buckets), kConfig.layers + 1);
    std::int64_t end = 0;
    for (const Bucket& bucket : buckets) {
      EXPECT_EQ(bucket.range.begin, end);
      ASSERT_EQ(std::ssize(bucket.parts), ranks);
      const std::int64_t count = bucket.range.end - bucket.range.begin, share = count / ranks;
      std::int64_t largest = 0;
      for (const auto& [begin, part_end] : bucket.parts) {
        EXPECT_EQ(begin, end);
        EXPECT_EQ(begin % 64, 0);
        EXPECT_LT(std::abs(part_end - begin - share), 128);
        end = part_end;
        largest = std::max(largest, part_end - begin);
      }
      EXPECT_EQ(largest, largest_part(count, ranks));
      EXPECT_EQ(end, bucket.range.end);
    }
    EXPECT_EQ(end, parameter_memory_count(specs));
    for (const ParameterSpec& spec : specs) {
      const int block = std::min<int>(spec.block, kConfig.layers - 1);
      const Bucket& bucket = buckets[static_cast<std::size_t>(block + 1)];
      EXPECT_EQ(bucket.block, block);
      EXPECT_GE(spec.offset, bucket.range.begin);
      EXPECT_LE(spec.offset + spec.padded_count(), bucket.range.end);
    }
  }
}

TEST(Sharding, ARankAloneHasEverythingInOnePiece) {
  const std::vector<ParameterSpec> specs = parameter_specs(kConfig);
  const std::vector<ElementRange> parts = parts_of(make_buckets(specs, 1), 0);
  ASSERT_EQ(parts.size(), 1u);
  EXPECT_EQ(parts.front().begin, 0);
  EXPECT_EQ(parts.front().end, parameter_memory_count(specs));
}

TEST(Sharding, SlicesFindTheirElements) {
  std::vector<float> memory(30);
  const Slices slices({{10, 20}, {40, 60}}, Tensor(memory.data(), DType::fp32, {30}));
  std::vector<std::pair<std::int64_t, std::int64_t>> found;  // element, index in memory
  const auto visit = [&](std::int64_t element, const Tensor& piece) {
    for (std::int64_t i = 0; i < piece.count(); ++i) {
      found.emplace_back(element + i, piece.as<float>() + i - memory.data());
    }
  };
  slices.for_each_piece(18, 43, visit);
  EXPECT_EQ(found, (std::vector<std::pair<std::int64_t, std::int64_t>>{
                       {18, 8}, {19, 9}, {40, 10}, {41, 11}, {42, 12}}));
  for (const auto& [element, index] : found) EXPECT_EQ(slices.element_at(index), element);
  found.clear();
  slices.for_each_piece(20, 40, visit);
  EXPECT_TRUE(found.empty());
}

struct Optimized {
  std::vector<float> parameters, m, v, master;  // flat
};

// Three updates of one rank; `gradients` are what it has of each step's.
Optimized optimize(DType type, Communicator& communicator,
                   const std::vector<std::vector<float>>& gradients) {
  const std::vector<ParameterSpec> specs = parameter_specs(kConfig);
  const std::int64_t count = parameter_memory_count(specs);
  const auto backend = make_cpu_backend(1);
  const DeviceTensor parameters = zeros(*backend, type, {count});
  const DeviceTensor gradient = zeros(*backend, DType::fp32, {count});
  const std::vector<float> loss = {communicator.is_first() ? 3.0f : 0.0f};
  const DeviceTensor loss_sum = to_device(*backend, DType::fp32, {1}, loss);
  AdamW adamw(*backend, specs, parameters, gradient,
              {.beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1, .grad_clip = 0},
              communicator);
  initialize_parameters(*backend, specs, adamw.master_slices(), /*seed=*/5);
  adamw.publish_master();
  for (std::size_t step = 0; step < gradients.size(); ++step) {
    backend->upload(gradient, gradients[step].data());
    adamw.reduce_gradients();
    adamw.update(static_cast<std::int64_t>(step) + 1, 1e-2, loss_sum);
    EXPECT_EQ(adamw.sums().loss, 3.0f);
    EXPECT_TRUE(adamw.sums().updated);
  }
  const auto flat = [&](const Tensor& memory) {
    std::vector<float> values(static_cast<std::size_t>(count));
    if (memory.empty()) return values;
    adamw.slices_of(memory).for_each_piece(
        0, count, [&](std::int64_t element, const Tensor& piece) {
          const std::vector<float> part = to_floats(*backend, piece);
          std::ranges::copy(part, values.begin() + element);
        });
    return values;
  };
  return {.parameters = to_floats(*backend, parameters),
          .m = flat(adamw.m()),
          .v = flat(adamw.v()),
          .master = adamw.has_own_master() ? flat(adamw.master()) : std::vector<float>()};
}

class ShardedAdamW : public testing::TestWithParam<std::tuple<DType, int>> {};

// Each element of the gradient comes from one rank and is 0 on the others, so that the sums are
// exact; without clipping the norm has no part in it.
TEST_P(ShardedAdamW, MakesTheBitsOfAdamWAlone) {
  const auto [type, ranks] = GetParam();
  const std::int64_t count = parameter_memory_count(parameter_specs(kConfig));
  std::vector<std::vector<float>> gradients;
  for (std::uint64_t step = 0; step < 3; ++step) gradients.push_back(normal_floats(count, step));
  const Optimized expected = optimize(type, alone(), gradients);

  std::mutex mutex;
  Optimized sum{.parameters = {},
                .m = std::vector<float>(static_cast<std::size_t>(count)),
                .v = std::vector<float>(static_cast<std::size_t>(count)),
                .master = std::vector<float>(expected.master.size())};
  run_ranks(ranks, [&, type = type, ranks = ranks](Communicator& communicator) {
    std::vector<std::vector<float>> mine = gradients;
    for (std::vector<float>& gradient : mine) {
      for (std::size_t i = 0; i < gradient.size(); ++i) {
        if (static_cast<int>(i) % ranks != communicator.rank()) gradient[i] = 0;
      }
    }
    const Optimized found = optimize(type, communicator, mine);
    EXPECT_TRUE(same_bits(std::as_bytes(std::span(found.parameters)),
                          std::as_bytes(std::span(expected.parameters))));
    const std::lock_guard lock(mutex);
    for (std::size_t i = 0; i < sum.m.size(); ++i) {
      sum.m[i] += found.m[i];
      sum.v[i] += found.v[i];
      if (!sum.master.empty()) sum.master[i] += found.master[i];
    }
  });
  EXPECT_EQ(sum.m, expected.m);
  EXPECT_EQ(sum.v, expected.v);
  EXPECT_EQ(sum.master, expected.master);
}

INSTANTIATE_TEST_SUITE_P(Worlds, ShardedAdamW,
                         testing::Combine(testing::Values(DType::fp32, DType::bf16),
                                          testing::Values(1, 2, 3, 4, 8, 13)));

}  // namespace
}  // namespace lathe::test
