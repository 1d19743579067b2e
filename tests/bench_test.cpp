// lathe bench: what it makes of times, and that its text and JSON have it.
#include <gtest/gtest.h>

#include <algorithm>

#include "commands/bench_report.h"
#include "support/json.h"
#include "support/process.h"

namespace lathe::test {
namespace {

using nlohmann::json;

// A machine of 100 flops in fp32, 400 in bf16, and 10 bytes a second.
constexpr Ceilings kMachine{.product_fp32 = 100, .product_bf16 = 400, .copy = 10, .triad = 8};

OperationTime operation(const char* name, double seconds, Cost cost) {
  return {.name = name, .calls = 1, .seconds = seconds, .cost = cost};
}

BenchReport report(std::vector<OperationTime> operations, double traced_seconds) {
  return {.device = "cpu",
          .precision = "fp32",
          .parameters = 1,
          .batch_tokens = 6,
          .steps = 3,
          .step_seconds = 2,
          .traced_seconds = traced_seconds,
          .operations = std::move(operations),
          .has_floor = true,
          .floor = {.products = 1, .memory = 0.5, .product_rate = 90, .ceilings = kMachine},
          .utilization = 0.5};
}

TEST(Bench, TheFloorIsWhatTakesTheMachineLonger) {
  const OperationTime product = operation("p", 5, {.flops = 300, .bytes = 10});
  EXPECT_EQ(floor_of(product, kMachine, DType::fp32).seconds, 3);
  EXPECT_EQ(floor_of(product, kMachine, DType::fp32).bound, Bound::product);
  // At the rate of bf16 the same flops take less than the bytes.
  EXPECT_EQ(floor_of(product, kMachine, DType::bf16).seconds, 1);
  EXPECT_EQ(floor_of(product, kMachine, DType::bf16).bound, Bound::memory);
}

TEST(Bench, TheWidestGapIsInSecondsNotInShares) {
  const auto slow = operation("slow", 10, {.flops = 900, .bytes = 0});
  const auto poor = operation("poor", 0.5, {.flops = 1, .bytes = 0});
  const Gap gap = widest_gap(report({slow, poor}, 10.75));
  EXPECT_EQ(gap.name, "slow");
  EXPECT_EQ(gap.above_floor(), 1);
  EXPECT_EQ(gap.floor_seconds, 9);
}

TEST(Bench, WhatLiesBetweenOperationsCanBeTheWidestGap) {
  const BenchReport with_pause = report({operation("a", 2, {.flops = 100, .bytes = 0})}, 5);
  EXPECT_EQ(with_pause.between_operations(), 3);
  EXPECT_EQ(widest_gap(with_pause).name, "between operations");
  EXPECT_EQ(widest_gap(with_pause).seconds, 3);
}

TEST(Bench, JsonHasEveryOperationAgainstItsCeiling) {
  const json said = parse_json(bench_json(report(
      {operation("a", 4, {.flops = 200, .bytes = 5}), operation("b", 1, {.flops = 0, .bytes = 9})},
      5)));
  EXPECT_EQ(said.at("step_ms"), 2000);
  EXPECT_EQ(said.at("tokens_per_second"), 3);
  EXPECT_DOUBLE_EQ(said.at("times_floor"), 2 / 1.5);
  const json& a = said.at("operations").at(0);
  EXPECT_EQ(a.at("name"), "a");
  EXPECT_EQ(a.at("calls").dump(), "1");
  EXPECT_EQ(a.at("share"), 0.8);
  EXPECT_EQ(a.at("floor_ms"), 2000);
  EXPECT_EQ(a.at("of_ceiling"), 0.5);
  EXPECT_EQ(a.at("bound"), "product");
  EXPECT_EQ(said.at("operations").at(1).at("bound"), "memory");
  EXPECT_EQ(said.at("widest_gap").at("name"), "a");
  EXPECT_DOUBLE_EQ(said.at("ceilings").at("product_bf16_gflops_per_second"), 400e-9);
}

TEST(Bench, TextHasTheSame) {
  const std::string text =
      bench_text(report({operation("linear", 4, {.flops = 200, .bytes = 5})}, 5));
  for (const char* said : {"2000.0 ms (median of 3)", "linear", "80.0%", "50% product",
                           "widest gap: linear, 2000.00 ms above its floor of 2000.00 ms"}) {
    EXPECT_NE(text.find(said), std::string::npos) << said << " is not in\n" << text;
  }
}

TEST(Bench, WithoutAFloorNothingIsComparedWithOne) {
  BenchReport alone = report({operation("linear", 4, {.flops = 200, .bytes = 5})}, 5);
  alone.has_floor = false;
  const json said = parse_json(bench_json(alone));
  for (const char* key : {"floor_ms", "mfu", "ceilings", "widest_gap"}) {
    EXPECT_FALSE(said.contains(key)) << key;
  }
  EXPECT_FALSE(said.at("operations").at(0).contains("of_ceiling"));
  EXPECT_EQ(bench_text(alone).find("floor"), std::string::npos);
}

// A real step, timed by the program: what it says of it is consistent. (Of 128 channels and tokens
// nothing is padded.)
TEST(Bench, TimesAStep) {
  const std::string shape =
      "--layers 1 --heads 1 --channels 128 --context 8 --vocab 128 --micro-batch 2 "
      "--batch-tokens 32 --steps 1 --threads 1 --device cpu --json";
  const ProcessResult bare =
      run_process({.arguments = lathe_arguments("bench --no-floor " + shape), .folder = "/"});
  ASSERT_EQ(bare.exit_code, 0) << bare.err;
  EXPECT_FALSE(parse_json(bare.out).contains("ceilings"));

  const ProcessResult done =
      run_process({.arguments = lathe_arguments("bench " + shape), .folder = "/"});
  ASSERT_EQ(done.exit_code, 0) << done.err;
  const json said = parse_json(done.out);
  const json& ceilings = said.at("ceilings");
  const double memory = std::max(ceilings.at("copy_gbytes_per_second").get<double>(),
                                 ceilings.at("triad_gbytes_per_second").get<double>());
  const double product = ceilings.at("product_fp32_gflops_per_second").get<double>();
  EXPECT_GT(memory, 0.1);
  EXPECT_GT(product, 0.1);
  double widest = said.at("between_operations_ms").get<double>() / 1e3;
  for (const json& op : said.at("operations")) {
    const double seconds = op.at("ms").get<double>() / 1e3;
    const double flops = op.at("gflops_per_second").get<double>() * seconds;
    const double bytes = op.at("gbytes_per_second").get<double>() * seconds;
    const double floor = std::max(flops / product, bytes / memory);
    EXPECT_NEAR(op.at("floor_ms").get<double>() / 1e3, floor, 1e-9 * floor) << op.at("name");
    widest = std::max(widest, seconds - floor);
  }
  const json& gap = said.at("widest_gap");
  EXPECT_NEAR(gap.at("ms").get<double>() - gap.at("floor_ms").get<double>(), 1e3 * widest,
              1e-6 * widest);
  EXPECT_EQ(said.at("operations").size(), 12u);

  // Both micro-steps write gradients, the second reads them, then the norm does; AdamW moves seven
  // values of each parameter.
  const double expected = said.at("parameters").get<double>() * 4 * (2 + 1 + 1 + 7);
  const double bytes = 1e6 * said.at("floor_memory_ms").get<double>() *
                       ceilings.at("triad_gbytes_per_second").get<double>();
  EXPECT_NEAR(bytes, expected, 1e-9 * expected);
  EXPECT_DOUBLE_EQ(said.at("floor_ms"), said.at("floor_products_ms").get<double>() +
                                            said.at("floor_memory_ms").get<double>());
}

}  // namespace
}  // namespace lathe::test
