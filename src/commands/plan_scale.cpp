#include "plan_scale.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <nlohmann/json.hpp>

#include "base/number_text.h"
#include "lathe/model_files.h"

namespace lathe {
namespace {

bool is_asked_for(const Options& o) {
  return o.gpus != 0 || o.nodes > 0 || o.gemm_tflops > 0 || o.memory_gbytes > 0 ||
         o.link_gbytes > 0 || o.node_link_gbytes > 0;
}

double tokens_per_second(const ScalePlan& plan) {
  return static_cast<double>(plan.tokens_per_step) / plan.predicted->seconds();
}

std::string bytes_text(double bytes) {
  return megabytes_text(static_cast<std::int64_t>(bytes));
}

// What the prediction rests on.
std::string rates_text(const ScalePlan& plan) {
  const ClusterRates& rates = plan.known.rates;
  std::string text = fmt::format("products {:g} TFLOP/s, memory {:g} GB/s", 1e-12 * rates.flops,
                                 1e-9 * rates.memory);
  const auto add_link = [&](const LinkRate& link, const char* where) {
    text += fmt::format(", {} {:g} GB/s and {:g} us", where, 1e-9 * link.bytes_per_second,
                        1e6 * link.latency);
  };
  if (plan.grid.per_node > 1) add_link(rates.inside_node, "inside a node");
  if (plan.grid.nodes > 1) add_link(rates.between_nodes, "between nodes");
  return text;
}

}  // namespace

std::optional<ScalePlan> plan_scale(const ModelConfig& config, const Options& options,
                                    std::int64_t micro_steps) {
  if (!is_asked_for(options)) return std::nullopt;
  const RankGrid grid = rank_grid(options);
  ScalePlan plan{.grid = grid,
                 .volume = communication_volume(parameter_memory_count(parameter_specs(config)),
                                                parse_precision(options.precision), grid),
                 .known = known_rates(options, grid),
                 .predicted = std::nullopt,
                 .tokens_per_step = options.batch_tokens};
  if (plan.known.missing.empty()) {
    const ClusterRates& rates = plan.known.rates;
    plan.predicted = predict_step(estimate_work(config, options, rates), grid, rates, micro_steps);
  }
  return plan;
}

nlohmann::ordered_json to_json(const ScalePlan& plan) {
  const ClusterRates& rates = plan.known.rates;
  nlohmann::ordered_json json = {{"ranks", plan.grid.ranks()},
                                 {"ranks_per_node", plan.grid.per_node},
                                 {"nodes", plan.grid.nodes},
                                 {"communication_bytes",
                                  {{"reduce_scatter", plan.volume.reduce_scatter},
                                   {"all_gather", plan.volume.all_gather},
                                   {"rank_inside_node", plan.volume.rank_inside_node},
                                   {"node_to_others", plan.volume.node_to_others}}},
                                 {"predicted", nullptr}};
  if (!plan.predicted) return json;
  const StepPrediction& step = *plan.predicted;
  json["predicted"] = {{"step_ms", 1e3 * step.seconds()},
                       {"micro_steps_ms", 1e3 * step.micro_steps},
                       {"reduce_scatter_ms", 1e3 * step.reduce_scatter},
                       {"norm_ms", 1e3 * step.norm},
                       {"update_ms", 1e3 * step.update},
                       {"all_gather_ms", 1e3 * step.all_gather},
                       {"tokens_per_second", tokens_per_second(plan)},
                       {"efficiency", step.efficiency()}};
  json["rates"] = {{"gemm_tflops", 1e-12 * rates.flops},
                   {"memory_gbytes", 1e-9 * rates.memory},
                   {"inside_node_gbytes", 1e-9 * rates.inside_node.bytes_per_second},
                   {"inside_node_microseconds", 1e6 * rates.inside_node.latency},
                   {"between_nodes_gbytes", 1e-9 * rates.between_nodes.bytes_per_second},
                   {"between_nodes_microseconds", 1e6 * rates.between_nodes.latency}};
  return json;
}

void print(const ScalePlan& plan) {
  fmt::print("ranks        {}: {} {} of {}; memory is that of each rank\n", plan.grid.ranks(),
             plan.grid.nodes, plan.grid.nodes == 1 ? "node" : "nodes", plan.grid.per_node);
  if (plan.grid.ranks() > 1) {
    fmt::print("a step sends {} of gradients (reduce-scatter), {} of parameters (all-gather):\n",
               bytes_text(plan.volume.reduce_scatter), bytes_text(plan.volume.all_gather));
    fmt::print("             {} from each rank inside its node, {} from each node to others\n",
               bytes_text(plan.volume.rank_inside_node), bytes_text(plan.volume.node_to_others));
  }
  if (!plan.predicted) {
    fmt::print("predicted    nothing: give {} to see a step's time\n",
               fmt::join(plan.known.missing, ", "));
    return;
  }
  const StepPrediction& step = *plan.predicted;
  fmt::print("predicted    step {:.1f} ms | {} tok/s | efficiency {:.1f} %\n", 1e3 * step.seconds(),
             rate_text(tokens_per_second(plan)), 100 * step.efficiency());
  fmt::print(
      "             micro-steps {:.1f} ms, reduce-scatter behind them {:.1f} ms, norm {:.1f} "
      "ms, update {:.1f} ms, all-gather {:.1f} ms\n",
      1e3 * step.micro_steps, 1e3 * step.reduce_scatter, 1e3 * step.norm, 1e3 * step.update,
      1e3 * step.all_gather);
  fmt::print("             from {}\n", rates_text(plan));
}

}  // namespace lathe
