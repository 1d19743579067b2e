// How products are planned: what is kept of the choice, and what happens to a choice that no longer
// fits. That the products are right is linear_test's.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include "support/compare.h"
#include "support/json.h"
#include "support/planned_layer.h"

namespace lathe::test {
namespace {

using nlohmann::ordered_json;

ordered_json chosen_plans(const CudaOptions& options = {}) {
  PlannedLayer layer(options);
  layer.run();
  return ordered_json::parse(layer.backend->plans());
}

TEST(GemmPlans, NameTheGpuTheLibraryAndEveryProduct) {
  const ordered_json json = chosen_plans();
  cudaDeviceProp properties = {};
  ASSERT_EQ(cudaGetDeviceProperties(&properties, 0), cudaSuccess);
  EXPECT_EQ(json.at("gpu"), properties.name);
  EXPECT_GT(json.at("cublaslt"), 0);
  std::vector<std::string> names;
  for (const auto& [name, plan] : json.at("plans").items()) names.push_back(name);
  // Writing a gradient and adding to it share a plan.
  EXPECT_EQ(names, (std::vector<std::string>{"24x1024x32 NN fp32 to fp32 gelu_derivative",
                                             "24x32x1024 NT fp32 to fp32 bias gelu",
                                             "32x1024x24 TN fp32 to fp32"}));
}

// A prompt has another length with every token: timing each would be endless, and nothing is kept.
TEST(GemmPlans, AreNotKeptOfWorkThatDoesNotRepeat) {
  constexpr std::int64_t N = PlannedLayer::N, I = PlannedLayer::I, O = PlannedLayer::O;
  const auto backend = make_cuda_backend({});
  const auto x = zeros(*backend, DType::fp32, {N, I}),
             weight = zeros(*backend, DType::fp32, {O, I});
  const auto out = zeros(*backend, DType::fp32, {N, O});
  backend->run(LinearForward{
      .out = out, .pre_gelu = {}, .x = x, .weight = weight, .bias = {}, .residual = {}});
  EXPECT_TRUE(ordered_json::parse(backend->plans()).at("plans").empty());
}

TEST(GemmPlans, GiveTheSameBitsAgain) {
  const std::string plans = chosen_plans().dump();
  PlannedLayer one = restored(plans), again = restored(plans);
  EXPECT_TRUE(one.run() == again.run());
  EXPECT_EQ(ordered_json::parse(again.backend->plans()), ordered_json::parse(plans));
  EXPECT_TRUE(again.backend->take_messages().empty());
}

TEST(GemmPlans, WithoutTuningAreAlwaysTheSame) {
  EXPECT_EQ(chosen_plans({.gemm_tuning = false}), chosen_plans({.gemm_tuning = false}));
}

// cuBLASLt wants addresses at multiples of 16 bytes: with any other the plain kernel computes.
TEST(Gemm, OperandsMayBeginAnywhere) {
  constexpr std::int64_t N = PlannedLayer::N, I = PlannedLayer::I, O = PlannedLayer::O;
  const auto backend = make_cuda_backend({});
  const DType type = DType::bf16;
  const auto values = normal_floats(O * I + 1, 1, 0.05f);
  const auto run = [&](int at_odd_address) {
    std::vector<DeviceTensor> owners;
    const auto matrix = [&](int number, std::int64_t rows, std::int64_t columns) {
      const std::int64_t skipped = number == at_odd_address ? 1 : 0, count = rows * columns;
      owners.push_back(
          to_device(*backend, type, {count + skipped},
                    std::span(values).first(static_cast<std::size_t>(count + skipped))));
      const Tensor tensor = owners.back().tensor().slice(skipped, count);
      backend->run(
          Convert{.out = tensor,
                  .x = to_device(*backend, DType::fp32, {count},
                                 std::span(values).first(static_cast<std::size_t>(count)))});
      return tensor.view({rows, columns});
    };
    const Tensor out = matrix(0, N, O), x = matrix(1, N, I), weight = matrix(2, O, I),
                 residual = matrix(3, N, O);
    const Tensor bias = matrix(4, 1, O).view({O});
    backend->run(LinearForward{
        .out = out, .pre_gelu = {}, .x = x, .weight = weight, .bias = bias, .residual = residual});
    return to_floats(*backend, out);
  };
  const std::vector<float> aligned = run(-1);
  for (int operand = 0; operand < 5; ++operand) {
    EXPECT_TRUE(near_in_norm(run(operand), reference::widen(aligned), 0x1p-8)) << operand;
  }
}

TEST(GemmPlans, ThatDoNotFitAreSaidAndChosenAnew) {
  ordered_json plans = chosen_plans();
  for (auto& plan : plans.at("plans")) plan["algorithm"][0] = "0123456789abcdef";
  PlannedLayer layer = restored(plans.dump()), fresh;
  const PlannedLayer::Results results = layer.run();
  EXPECT_TRUE(near_in_norm(results.out, reference::widen(fresh.run().out), 1e-6));
  const std::vector<std::string> messages = layer.backend->take_messages();
  ASSERT_EQ(messages.size(), 3u);
  EXPECT_NE(messages[0].find("24x32x1024 NT fp32 to fp32 bias gelu does not fit"),
            std::string::npos)
      << messages[0];
  EXPECT_TRUE(layer.backend->take_messages().empty());
}

TEST(GemmPlans, OfAnotherGpuOrUnreadableAreSaid) {
  ordered_json other = chosen_plans();
  other["gpu"] = "Other GPU";
  const std::string damaged = other.dump().substr(0, 60);
  PlannedLayer a = restored(other.dump()), b = restored(damaged);
  const std::vector<std::string> of_another = a.backend->take_messages();
  ASSERT_EQ(of_another.size(), 1u);
  EXPECT_NE(of_another[0].find("are of Other GPU"), std::string::npos) << of_another[0];
  const std::vector<std::string> unreadable = b.backend->take_messages();
  ASSERT_EQ(unreadable.size(), 1u);
  EXPECT_NE(unreadable[0].find("cannot be read"), std::string::npos) << unreadable[0];
  EXPECT_EQ(unreadable[0].find('\n'), std::string::npos);
}

}  // namespace
}  // namespace lathe::test
