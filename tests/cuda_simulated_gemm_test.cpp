// How products are planned, with the plans of the stand-in for cuBLASLt, which are known: these
// tests can say what was chosen. cuda_gemm_test has those for any GPU.
#include <gtest/gtest.h>

#include "support/compare.h"
#include "support/json.h"
#include "support/planned_layer.h"

namespace lathe::test {
namespace {

using nlohmann::ordered_json;

// Words of the stand-in's plans (ptx_machine/cublaslt.cpp).
constexpr const char* kWhole = "000000001a7e0002";
constexpr const char* kSplit = "000000001a7e0003";

// The plans of the layer, every one replaced.
std::string plans_with(const char* word, bool separate_epilogue, DType type = DType::fp32) {
  PlannedLayer layer;
  layer.run(type);
  ordered_json json = ordered_json::parse(layer.backend->plans());
  for (auto& [name, plan] : json.at("plans").items()) {
    plan["algorithm"][0] = word;
    plan["separate_epilogue"] = separate_epilogue && name.find("gelu") != std::string::npos;
  }
  return json.dump();
}

TEST(SimulatedGemmPlans, ThatDifferGiveOtherBitsEachTheSameAgain) {
  const std::string whole = plans_with(kWhole, false), split = plans_with(kSplit, false);
  PlannedLayer one = restored(whole), other = restored(split), again = restored(split);
  const PlannedLayer::Results whole_results = one.run(), split_results = other.run();
  EXPECT_NE(whole_results.out, split_results.out);
  EXPECT_TRUE(again.run() == split_results);
  EXPECT_EQ(ordered_json::parse(other.backend->plans()), ordered_json::parse(split));
  EXPECT_TRUE(other.backend->take_messages().empty());
}

TEST(SimulatedGemmPlans, WithoutTuningAreTheFirst) {
  PlannedLayer layer({.gemm_tuning = false});
  layer.run();
  for (const auto& plan : ordered_json::parse(layer.backend->plans()).at("plans")) {
    EXPECT_EQ(plan.at("algorithm").at(0), kWhole);
    EXPECT_EQ(plan.at("separate_epilogue"), false);
  }
}

// Beyond fp32's rounding only that of pre_gelu, which the kernel of its own reads as it is stored.
TEST(SimulatedGemmPlans, ASeparateEpilogueGivesTheSameResults) {
  for (const DType type : {DType::fp32, DType::bf16}) {
    PlannedLayer fused = restored(plans_with(kWhole, false, type));
    PlannedLayer separate = restored(plans_with(kWhole, true, type));
    const PlannedLayer::Results a = fused.run(type), b = separate.run(type);
    const double rounding = type == DType::bf16 ? 3 * 0x1p-9 : 2e-7;
    EXPECT_EQ(a.pre_gelu, b.pre_gelu);
    EXPECT_TRUE(near_in_norm(b.out, reference::widen(a.out), rounding));
    EXPECT_TRUE(near_in_norm(b.d_x, reference::widen(a.d_x), rounding));
    EXPECT_EQ(a.d_weight, b.d_weight);
  }
}

}  // namespace
}  // namespace lathe::test
