// How products are planned: what is kept of the choice, and what happens to a choice that no longer
// fits. That the products are right is linear_test's.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "lathe/cuda.h"
#include "support/compare.h"
#include "support/device_tensors.h"
#include "support/reference.h"

namespace lathe::test {
namespace {

using nlohmann::ordered_json;

// Words of the stand-in's plans (ptx_machine/cublaslt.cpp).
constexpr const char* kWhole = "000000001a7e0002";
constexpr const char* kSplit = "000000001a7e0003";

constexpr std::int64_t N = 24, I = 1024, O = 32;

// A layer with GELU, forward and backward: one product of each kind, as work that repeats.
struct Layer {
  explicit Layer(const CudaOptions& options = {})
      : backend(make_cuda_backend(options)), recorder(backend->make_recorder()) {}

  struct Results {
    std::vector<float> out, pre_gelu, d_x, d_weight;
    bool operator==(const Results&) const = default;
  };

  Results run(DType type = DType::fp32) {
    const auto x = to_device(*backend, type, {N, I}, normal_floats(N * I, 1));
    const auto weight = to_device(*backend, type, {O, I}, normal_floats(O * I, 2, 0.03f));
    const auto bias = to_device(*backend, type, {O}, normal_floats(O, 3));
    const auto d_out = to_device(*backend, type, {N, O}, normal_floats(N * O, 4));
    const auto out = zeros(*backend, type, {N, O}), pre_gelu = zeros(*backend, type, {N, O});
    const auto d_x = zeros(*backend, type, {N, I});
    const auto d_weight = zeros(*backend, DType::fp32, {O, I});
    recorder->run("layer", [&] {
      backend->run(LinearForward{.out = out,
                                 .pre_gelu = pre_gelu,
                                 .x = x,
                                 .weight = weight,
                                 .bias = bias,
                                 .residual = {}});
      for (const bool accumulate : {false, true}) {
        backend->run(LinearBackward{.d_x = d_x,
                                    .d_weight = d_weight,
                                    .d_bias = {},
                                    .d_out = d_out,
                                    .x = x,
                                    .weight = weight,
                                    .pre_gelu = x,
                                    .accumulate = accumulate});
      }
    });
    return {.out = to_floats(*backend, out),
            .pre_gelu = to_floats(*backend, pre_gelu),
            .d_x = to_floats(*backend, d_x),
            .d_weight = to_floats(*backend, d_weight)};
  }

  std::unique_ptr<Backend> backend;
  std::unique_ptr<Recorder> recorder;
};

// The plans of the layer, every one replaced.
std::string plans_with(const char* word, bool separate_epilogue, DType type = DType::fp32) {
  Layer layer;
  layer.run(type);
  ordered_json json = ordered_json::parse(layer.backend->plans());
  for (auto& [name, plan] : json.at("plans").items()) {
    plan["algorithm"][0] = word;
    plan["separate_epilogue"] = separate_epilogue && name.find("gelu") != std::string::npos;
  }
  return json.dump();
}

Layer restored(const std::string& plans) {
  Layer layer;
  layer.backend->restore_plans(plans);
  return layer;
}

TEST(GemmPlans, NameTheGpuTheLibraryAndEveryProduct) {
  Layer layer;
  layer.run();
  const ordered_json json = ordered_json::parse(layer.backend->plans());
  EXPECT_EQ(json.at("gpu"), "PTX machine");
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
  const auto backend = make_cuda_backend({});
  const auto x = zeros(*backend, DType::fp32, {N, I}),
             weight = zeros(*backend, DType::fp32, {O, I});
  const auto out = zeros(*backend, DType::fp32, {N, O});
  backend->run(LinearForward{
      .out = out, .pre_gelu = {}, .x = x, .weight = weight, .bias = {}, .residual = {}});
  EXPECT_TRUE(ordered_json::parse(backend->plans()).at("plans").empty());
}

TEST(GemmPlans, GiveTheSameBitsAgain) {
  const std::string whole = plans_with(kWhole, false), split = plans_with(kSplit, false);
  Layer one = restored(whole), other = restored(split), again = restored(split);
  const Layer::Results whole_results = one.run(), split_results = other.run();
  EXPECT_NE(whole_results.out, split_results.out);  // or the rest would show nothing
  EXPECT_TRUE(again.run() == split_results);
  EXPECT_EQ(ordered_json::parse(other.backend->plans()), ordered_json::parse(split));
  EXPECT_TRUE(other.backend->take_messages().empty());
}

TEST(GemmPlans, WithoutTuningAreTheFirst) {
  Layer layer({.gemm_tuning = false});
  layer.run();
  for (const auto& plan : ordered_json::parse(layer.backend->plans()).at("plans")) {
    EXPECT_EQ(plan.at("algorithm").at(0), kWhole);
    EXPECT_EQ(plan.at("separate_epilogue"), false);
  }
}

// Beyond fp32's rounding only that of pre_gelu, which the kernel of its own reads as it is stored.
TEST(GemmPlans, ASeparateEpilogueGivesTheSameResults) {
  for (const DType type : {DType::fp32, DType::bf16}) {
    Layer fused = restored(plans_with(kWhole, false, type));
    Layer separate = restored(plans_with(kWhole, true, type));
    const Layer::Results a = fused.run(type), b = separate.run(type);
    const double rounding = type == DType::bf16 ? 3 * 0x1p-9 : 2e-7;
    EXPECT_EQ(a.pre_gelu, b.pre_gelu);
    EXPECT_TRUE(near_in_norm(b.out, reference::widen(a.out), rounding));
    EXPECT_TRUE(near_in_norm(b.d_x, reference::widen(a.d_x), rounding));
    EXPECT_EQ(a.d_weight, b.d_weight);
  }
}

// cuBLASLt wants addresses at multiples of 16 bytes: with any other the plain kernel computes.
TEST(Gemm, OperandsMayBeginAnywhere) {
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
  Layer layer = restored(plans_with("0123456789abcdef", false));
  Layer fresh = restored(plans_with(kWhole, false));
  const Layer::Results results = layer.run();
  EXPECT_TRUE(near_in_norm(results.out, reference::widen(fresh.run().out), 1e-6));
  const std::vector<std::string> messages = layer.backend->take_messages();
  ASSERT_EQ(messages.size(), 3u);
  EXPECT_NE(messages[0].find("24x32x1024 NT fp32 to fp32 bias gelu does not fit"),
            std::string::npos)
      << messages[0];
  EXPECT_TRUE(layer.backend->take_messages().empty());
}

TEST(GemmPlans, OfAnotherGpuOrUnreadableAreSaid) {
  ordered_json other = ordered_json::parse(plans_with(kSplit, false));
  other["gpu"] = "Other GPU";
  const std::string damaged = other.dump().substr(0, 60);
  Layer a = restored(other.dump()), b = restored(damaged);
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
