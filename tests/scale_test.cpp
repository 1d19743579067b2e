// Scale on paper: the formulas against cases worked out by hand, their limits, and the work of a
// step against that of a real one.
#include "lathe/scale.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "lathe/adamw.h"
#include "lathe/model_files.h"
#include "lathe/plan.h"
#include "lathe/sharding.h"
#include "support/json.h"
#include "support/process.h"
#include "support/temp_dir.h"

namespace lathe {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

ClusterRates slow_rates() {
  return {.flops = 1e12,
          .memory = 1e11,
          .inside_node = {.bytes_per_second = 1e9, .latency = 1e-3},
          .between_nodes = {.bytes_per_second = 1e8, .latency = 1e-2}};
}

// Three buckets of 102.4 MB of gradients, 51.2 MB of parameters; 8 ranks share them equally.
StepWork three_buckets() {
  constexpr std::int64_t kElements = 25'600'000;
  return {.micro_step = 3,
          .update = 0.8,
          .buckets = {{kElements, 1}, {kElements, 2}, {kElements, 3}},
          .parameters = 3 * kElements,
          .compute_size = 2};
}

TEST(Collective, TakesARingsSteps) {
  const ClusterRates rates = slow_rates();
  EXPECT_EQ(collective_seconds(4e9, {.per_node = 1, .nodes = 1}, rates), 0);
  // Three steps, each of a quarter.
  EXPECT_DOUBLE_EQ(collective_seconds(4e9, {.per_node = 4, .nodes = 1}, rates), 3 * (1e-3 + 1));
  EXPECT_DOUBLE_EQ(collective_seconds(4e9, {.per_node = 1, .nodes = 4}, rates), 3 * (1e-2 + 10));
  // First half of it inside, then half of it between.
  EXPECT_DOUBLE_EQ(collective_seconds(4e9, {.per_node = 2, .nodes = 2}, rates),
                   (1e-3 + 2) + (1e-2 + 20));
}

TEST(Communication, CountsWhatIsPassedOn) {
  const CommunicationVolume volume =
      communication_volume(/*parameters=*/1000, DType::bf16, {.per_node = 4, .nodes = 2});
  EXPECT_EQ(volume.reduce_scatter, 4000);
  EXPECT_EQ(volume.all_gather, 2000);
  EXPECT_EQ(volume.rank_inside_node, 4500);
  EXPECT_EQ(volume.node_to_others, 3000);
  const CommunicationVolume alone = communication_volume(1000, DType::bf16, {});
  EXPECT_EQ(alone.reduce_scatter + alone.all_gather + alone.rank_inside_node + alone.node_to_others,
            0);
}

TEST(PredictedStep, HidesWhatItCanBehindTheBackward) {
  ClusterRates rates = slow_rates();
  rates.inside_node = {.bytes_per_second = 1.024e8, .latency = 0};
  // A bucket takes half a second: all but the last end before the backward does.
  const StepPrediction step =
      predict_step(three_buckets(), {.per_node = 2, .nodes = 1}, rates, /*micro_steps=*/2);
  EXPECT_DOUBLE_EQ(step.micro_steps, 6);
  EXPECT_DOUBLE_EQ(step.reduce_scatter, 0.5);
  EXPECT_DOUBLE_EQ(step.norm, 2 * 4 / 1.024e8);
  EXPECT_DOUBLE_EQ(step.update, 0.4);
  // A bucket takes a quarter of a second, its update 0.4 / 3: only the first update is waited for.
  EXPECT_DOUBLE_EQ(step.all_gather, 0.4 / 3 + 3 * 0.25 - 0.4);
  EXPECT_DOUBLE_EQ(step.efficiency(), 6.4 / step.seconds());
  // Two seconds each: from the first on, one after the other.
  rates.inside_node.bytes_per_second = 0.256e8;
  EXPECT_DOUBLE_EQ(predict_step(three_buckets(), {.per_node = 2}, rates, 2).reduce_scatter,
                   1 + 3 * 2 - 3);
}

TEST(PredictedStep, OfOneRankIsWhatItComputes) {
  const StepPrediction step = predict_step(three_buckets(), {}, slow_rates(), 2);
  EXPECT_DOUBLE_EQ(step.seconds(), 2 * 3 + 0.8);
  EXPECT_EQ(step.efficiency(), 1);
}

TEST(PredictedStep, OverInfiniteLinksIsWhatRanksCompute) {
  ClusterRates rates = slow_rates();
  rates.inside_node = rates.between_nodes = {.bytes_per_second = kInfinity, .latency = 0};
  const StepPrediction step = predict_step(three_buckets(), {.per_node = 4, .nodes = 2}, rates, 1);
  EXPECT_DOUBLE_EQ(step.seconds(), 3 + 0.8 / 8);
  EXPECT_EQ(step.efficiency(), 1);
}

TEST(PredictedStep, IsNeverFasterOnWorseLinks) {
  const RankGrid grid{.per_node = 4, .nodes = 4};
  double last = 0;
  for (const double worse : {1.0, 1.5, 4.0, 100.0}) {
    ClusterRates rates = slow_rates();
    rates.inside_node.bytes_per_second /= worse;
    const double slower = predict_step(three_buckets(), grid, rates, 1).seconds();
    rates = slow_rates();
    rates.between_nodes.latency *= worse;
    const double later = predict_step(three_buckets(), grid, rates, 1).seconds();
    EXPECT_GE(std::min(slower, later), last);
    last = std::max(last, std::min(slower, later));
  }
  double efficiency = 0;
  for (const std::int64_t micro_steps : {1, 2, 8}) {
    const double more = predict_step(three_buckets(), grid, slow_rates(), micro_steps).efficiency();
    EXPECT_GT(more, efficiency);
    efficiency = more;
  }
}

// As much as the rank that has most really has, or one piece of 64 for each bucket more.
TEST(OptimizerShare, IsThatOfTheRankThatHasMost) {
  const auto specs =
      parameter_specs({.layers = 3, .heads = 2, .channels = 48, .context = 64, .vocab = 300});
  EXPECT_EQ(optimizer_share(specs, 1), parameter_memory_count(specs));
  for (const int ranks : {2, 3, 7, 1000}) {
    const std::vector<Bucket> buckets = make_buckets(specs, ranks);
    std::int64_t most = 0;
    for (int rank = 0; rank < ranks; ++rank) {
      most = std::max(most, count_of(parts_of(buckets, rank)));
    }
    const std::int64_t share = optimizer_share(specs, ranks);
    EXPECT_GE(share, most);
    EXPECT_LE(share, most + 64 * std::ssize(buckets));
  }
}

class Work : public testing::TestWithParam<const char*> {
 protected:
  static Options options() {
    Options options = parse_options(
        Command::plan,
        std::vector<std::string>{"--layers=3", "--heads=2", "--channels=32", "--context=64",
                                 "--micro-batch=2", "--device=cpu", GetParam()},
        {});
    resolve(options);
    return options;
  }
};

class Costs final : public Tracer {
 public:
  void record(const TimedOperation& operation) override {
    flops += operation.cost.flops;
    bytes += operation.cost.bytes;
  }
  double flops = 0, bytes = 0;
};

TEST_P(Work, IsThatOfARealStep) {
  const Options given = options();
  const ModelConfig config = complete_config(given, 256);
  const auto backend = make_cpu_backend(1);
  Gpt2 model(*backend, config, training_model_options(given));
  Costs costs;
  backend->set_tracer(&costs);
  const std::vector<std::int32_t> tokens(
      static_cast<std::size_t>(given.micro_batch * given.seq_len));
  model.forward_backward({.sequences = given.micro_batch,
                          .seq_len = given.seq_len,
                          .tokens = tokens,
                          .targets = tokens},
                         1, /*accumulate=*/false);
  ClusterRates by_flops = slow_rates(), by_bytes = slow_rates();
  by_flops.flops = 1;
  by_flops.memory = kInfinity;
  by_bytes.flops = kInfinity;
  by_bytes.memory = 1;
  EXPECT_NEAR(estimate_work(config, given, by_flops).micro_step, costs.flops, 1e-9 * costs.flops);
  EXPECT_NEAR(estimate_work(config, given, by_bytes).micro_step, costs.bytes, 1e-9 * costs.bytes);
}

TEST_P(Work, MakesBucketsReadyOneAfterAnother) {
  const Options given = options();
  const StepWork work = estimate_work(complete_config(given, 256), given, slow_rates());
  ASSERT_EQ(work.buckets.size(), 4u);
  double last = 0;
  for (const GradientBucket& bucket : work.buckets) {
    EXPECT_GT(bucket.ready, last);
    last = bucket.ready;
  }
  EXPECT_EQ(last, work.micro_step);
  // The blocks' backward comes behind the forward of them all.
  EXPECT_GT(work.buckets.front().ready, 0.3 * work.micro_step);
}

INSTANTIATE_TEST_SUITE_P(Recompute, Work, testing::Values("--recompute=none", "--recompute=block"));

// GPT-2 124M: 6 for each parameter of a product and token, and causal attention (7 products of
// T/2 columns).
TEST(WorkOfGpt2, IsSixForEachParameterAndToken) {
  Options options = parse_options(
      Command::plan, std::vector<std::string>{"--model=gpt2", "--gpus=1", "--micro-batch=1"}, {});
  resolve(options);
  const ModelConfig config = complete_config(options, 50257);
  ClusterRates rates = slow_rates();
  rates.flops = 1;
  rates.memory = kInfinity;
  const double in_products = 12 * 12 * 768 * 768 + 50304.0 * 768;
  const double expected = 1024 * (6 * in_products + 7 * 12 * 768 * 1024.0);
  EXPECT_NEAR(estimate_work(config, options, rates).micro_step, expected, 0.01 * expected);
}

TEST(PlannedMemory, OfARankHasItsShareOfTheOptimizer) {
  const auto memory = [](std::vector<std::string> more) {
    more.insert(more.end(), {"--model=gpt2-xl", "--device=cuda"});
    Options options = parse_options(Command::plan, more, {});
    resolve(options);
    return plan_memory(complete_config(options, 50257), options, rank_grid(options).ranks());
  };
  const MemoryPlan alone = memory({}), of_32 = memory({"--gpus=8", "--nodes=4"});
  EXPECT_EQ(of_32.parameters, alone.parameters);
  EXPECT_EQ(of_32.gradients, alone.gradients);
  EXPECT_EQ(of_32.activations, alone.activations);
  EXPECT_NEAR(static_cast<double>(of_32.optimizer), static_cast<double>(alone.optimizer) / 32,
              1e-5 * static_cast<double>(alone.optimizer));
  EXPECT_EQ(of_32.saving, 0);
  EXPECT_EQ(memory({"--gpus=1"}).optimizer, alone.optimizer);
}

class PlanCommand : public testing::Test {
 protected:
  test::ProcessResult plan(const std::string& words) const {
    return test::run_process(
        {.arguments = test::lathe_arguments("plan " + words), .folder = folder_.path()});
  }
  nlohmann::json scale(const std::string& words) const {
    const test::ProcessResult result = plan(words + " --json");
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return test::parse_json(result.out).at("scale");
  }

  test::TempDir folder_;
};

TEST_F(PlanCommand, PredictsWithoutAGpuAtHand) {
  const std::string words = "--gpus 8 --nodes 4 --model gpt2-xl --micro-batch 8";
  const nlohmann::json json = scale(words);
  EXPECT_EQ(json.at("ranks"), 32);
  const nlohmann::json& step = json.at("predicted");
  EXPECT_GT(step.at("efficiency"), 0);
  EXPECT_LT(step.at("efficiency"), 1);
  EXPECT_GT(step.at("reduce_scatter_ms"), 0);
  EXPECT_NEAR(step.at("tokens_per_second").get<double>() * step.at("step_ms").get<double>() / 1e3,
              32 * 8 * 1024, 1);
  EXPECT_EQ(json.at("rates").at("between_nodes_gbytes"), 50);
  const test::ProcessResult text = plan(words);
  for (const char* part :
       {"32: 4 nodes of 8", "reduce-scatter", "all-gather", "predicted", "efficiency",
        "between nodes 50 GB/s and 15 us", "micro-batches of 8 x 1024 on every rank"}) {
    EXPECT_NE(text.out.find(part), std::string::npos) << part << "\n" << text.out;
  }
}

TEST_F(PlanCommand, TakesGivenRates) {
  const std::string words =
      "--device cpu --model gpt2 --gpus 2 --gemm-tflops 0.1 --memory-gbytes 20";
  EXPECT_EQ(scale(words).at("predicted"), nullptr);
  EXPECT_NE(plan(words).out.find("give --link-gbytes to see a step's time"), std::string::npos);
  const double slow = scale(words + " --link-gbytes 1").at("predicted").at("efficiency");
  const double fast = scale(words + " --link-gbytes 10").at("predicted").at("efficiency");
  EXPECT_LT(slow, fast);
  const nlohmann::json alone =
      scale("--device cpu --model gpt2 --gemm-tflops 0.1 --memory-gbytes 20");
  EXPECT_EQ(alone.at("predicted").at("efficiency"), 1);
}

TEST_F(PlanCommand, RefusesABatchThatRanksCannotShare) {
  const test::ProcessResult result =
      plan("--gpus 8 --nodes 4 --model gpt2 --micro-batch 4 --batch-tokens 500000");
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_EQ(
      result.err,
      "lathe: --batch-tokens 500000: must be a multiple of 131072, which is --micro-batch 4 x "
      "--seq-len 1024 x 32 ranks; the nearest are 393216 and 524288\n");
}

TEST_F(PlanCommand, SaysNothingOfRanksUnasked) {
  const test::ProcessResult result = plan("--model gpt2 --json");
  EXPECT_FALSE(test::parse_json(result.out).contains("scale"));
}

}  // namespace
}  // namespace lathe
