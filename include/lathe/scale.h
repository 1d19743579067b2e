// What a step takes on many ranks, from sizes and given rates alone. The model is explained in
// docs/distributed.md: ZeRO-1 on ranks that stand in nodes, with a link inside and one between
// them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lathe/model_config.h"
#include "lathe/options.h"
#include "lathe/tensor.h"

namespace lathe {

struct RankGrid {
  std::int64_t per_node = 1, nodes = 1;

  std::int64_t ranks() const { return per_node * nodes; }
};

// That of --gpus and --nodes; one rank without them.
RankGrid rank_grid(const Options& options);

// A message of n bytes takes latency + n / bytes_per_second.
struct LinkRate {
  double bytes_per_second, latency;  // of one direction; seconds
};

struct ClusterRates {
  double flops;            // of matrix products, per second, of one rank
  double memory;           // bytes per second, of one rank
  LinkRate inside_node;    // from one rank to another
  LinkRate between_nodes;  // from one node to another, all its ranks together
};

// Those of the options, with a GPU's defaults. A CPU has none: there `missing` names the options
// without which nothing can be said of such a grid.
struct KnownRates {
  ClusterRates rates;
  std::vector<std::string> missing;
};
KnownRates known_rates(const Options& options, const RankGrid& grid);

// Gradients that are summed over the ranks together: those of a Bucket (sharding.h).
struct GradientBucket {
  std::int64_t elements;
  double ready;  // seconds from the start of a micro-step until they are whole
};

// What one rank computes.
struct StepWork {
  double micro_step;                    // seconds
  double update;                        // seconds, of all parameters
  std::vector<GradientBucket> buckets;  // in the order in which they get ready
  std::int64_t parameters;              // elements, with padding
  std::int64_t compute_size;            // bytes of an element that flows
};

// Every operation of a step at its rate: flops / rates.flops or bytes / rates.memory, whichever is
// longer. The step is that of the model's own code, run on a device that only counts.
StepWork estimate_work(const ModelConfig& config, const Options& options,
                       const ClusterRates& rates);

// Elements of m, v and master weights that a rank has, at most: its part of every bucket
// (sharding.h).
std::int64_t optimizer_share(const std::vector<ParameterSpec>& specs, std::int64_t ranks);

// Bytes that go out in a step.
struct CommunicationVolume {
  double reduce_scatter, all_gather;  // the whole: fp32 gradients, parameters in compute type
  double rank_inside_node;            // from each rank to others of its node
  double node_to_others;              // from each node, all its ranks together
};
CommunicationVolume communication_volume(std::int64_t parameters, DType compute,
                                         const RankGrid& grid);

// Seconds in which every rank has its share of the sum of `bytes`, or of its share all have all.
double collective_seconds(double bytes, const RankGrid& grid, const ClusterRates& rates);

// Seconds of a step's parts, one after another.
struct StepPrediction {
  double micro_steps;     // forward and backward
  double reduce_scatter;  // what of it is not hidden behind the last backward
  double norm;            // the sums of gradient norm and loss
  double update;          // of a rank's share
  double all_gather;      // what of it is not hidden behind the update

  double seconds() const { return micro_steps + reduce_scatter + norm + update + all_gather; }
  // The share of the time in which ranks compute.
  double efficiency() const { return (micro_steps + update) / seconds(); }
};
StepPrediction predict_step(const StepWork& work, const RankGrid& grid, const ClusterRates& rates,
                            std::int64_t micro_steps);

}  // namespace lathe
