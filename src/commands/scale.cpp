#include "lathe/scale.h"

#include <algorithm>
#include <ranges>
#include <utility>

#include "lathe/sharding.h"

namespace lathe {
namespace {

constexpr double kTera = 1e12, kGiga = 1e9, kMicro = 1e-6;

// What a GPU is taken for where the options say nothing: an H100 or H200 with NVLink, and one
// InfiniBand adapter of 400 Gbit/s in a node. About what such products, memories and links reach of
// their data sheets' numbers; assumed, not measured.
constexpr double kGpuTeraflopsBf16 = 500, kGpuTeraflopsTf32 = 250, kGpuTeraflopsFp32 = 50;
constexpr double kGpuMemory = 2500, kGpuLink = 350, kGpuNodeLink = 50;  // GB/s

double gpu_teraflops(const Options& options) {
  if (options.precision == "bf16") return kGpuTeraflopsBf16;
  return options.tf32 ? kGpuTeraflopsTf32 : kGpuTeraflopsFp32;
}

// Of a ring of `members`: each of its steps passes on one part of `bytes`.
double ring_seconds(double bytes, std::int64_t members, const LinkRate& link) {
  const auto steps = static_cast<double>(members - 1);
  return steps * (link.latency + bytes / static_cast<double>(members) / link.bytes_per_second);
}

// What of `bytes` a member of a ring passes on.
double passed_on(double bytes, std::int64_t members) {
  return bytes * static_cast<double>(members - 1) / static_cast<double>(members);
}

}  // namespace

RankGrid rank_grid(const Options& options) {
  return {.per_node = std::max<std::int64_t>(1, ranks_per_node(options)),
          .nodes = std::max<std::int64_t>(1, options.nodes)};
}

KnownRates known_rates(const Options& options, const RankGrid& grid) {
  std::vector<std::string> missing;
  const auto rate = [&](double given, double on_gpu, const char* name, bool is_needed) {
    if (given > 0) return given;
    if (uses_gpu(options)) return on_gpu;
    if (is_needed) missing.emplace_back(name);
    return 0.0;
  };
  const double flops = rate(options.gemm_tflops, gpu_teraflops(options), "--gemm-tflops", true);
  const double memory = rate(options.memory_gbytes, kGpuMemory, "--memory-gbytes", true);
  const double link = rate(options.link_gbytes, kGpuLink, "--link-gbytes", grid.per_node > 1);
  const double node_link =
      rate(options.node_link_gbytes, kGpuNodeLink, "--node-link-gbytes", grid.nodes > 1);
  return {.rates = {.flops = kTera * flops,
                    .memory = kGiga * memory,
                    .inside_node = {.bytes_per_second = kGiga * link,
                                    .latency = kMicro * options.link_microseconds},
                    .between_nodes = {.bytes_per_second = kGiga * node_link,
                                      .latency = kMicro * options.node_link_microseconds}},
          .missing = std::move(missing)};
}

std::int64_t optimizer_share(const std::vector<ParameterSpec>& specs, std::int64_t ranks) {
  std::int64_t elements = 0;
  for (const Bucket& bucket : make_buckets(specs, /*ranks=*/1)) {
    elements += largest_part(count_of({bucket.range}), ranks);
  }
  return elements;
}

CommunicationVolume communication_volume(std::int64_t parameters, DType compute,
                                         const RankGrid& grid) {
  const auto gradient_bytes = static_cast<double>(parameters * size_of(DType::fp32));
  const auto parameter_bytes = static_cast<double>(parameters * size_of(compute));
  const bool is_alone = grid.ranks() == 1;
  return {.reduce_scatter = is_alone ? 0 : gradient_bytes,
          .all_gather = is_alone ? 0 : parameter_bytes,
          .rank_inside_node = passed_on(gradient_bytes + parameter_bytes, grid.per_node),
          .node_to_others = passed_on(gradient_bytes + parameter_bytes, grid.nodes)};
}

// A ring inside every node, which leaves each of its ranks a share, and then for every place in a
// node a ring through the nodes, all of which have the nodes' links together.
double collective_seconds(double bytes, const RankGrid& grid, const ClusterRates& rates) {
  return (grid.per_node > 1 ? ring_seconds(bytes, grid.per_node, rates.inside_node) : 0) +
         (grid.nodes > 1 ? ring_seconds(bytes, grid.nodes, rates.between_nodes) : 0);
}

// The network takes one bucket after another, each when it is ready and the one before is done:
// gradients as the backward pass is through with them, parameters as they are updated, which is the
// other way round.
StepPrediction predict_step(const StepWork& work, const RankGrid& grid, const ClusterRates& rates,
                            std::int64_t micro_steps) {
  constexpr double kSums = 2 * sizeof(float);
  StepPrediction step{};
  const auto seconds = [&](const GradientBucket& bucket, std::int64_t size) {
    return collective_seconds(static_cast<double>(bucket.elements * size), grid, rates);
  };
  double network_free = 0;
  for (const GradientBucket& bucket : work.buckets) {
    network_free = std::max(network_free, bucket.ready) + seconds(bucket, size_of(DType::fp32));
  }
  step.micro_steps = static_cast<double>(micro_steps) * work.micro_step;
  step.reduce_scatter = std::max(0.0, network_free - work.micro_step);
  step.norm = 2 * collective_seconds(kSums, grid, rates);
  network_free = 0;
  for (const GradientBucket& bucket : std::views::reverse(work.buckets)) {
    const auto own = static_cast<double>(largest_part(bucket.elements, grid.ranks()));
    step.update += work.update * own / static_cast<double>(work.parameters);
    network_free = std::max(network_free, step.update) + seconds(bucket, work.compute_size);
  }
  step.all_gather = network_free - step.update;
  return step;
}

}  // namespace lathe
