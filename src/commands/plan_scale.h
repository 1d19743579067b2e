// The part of a plan that is about many ranks: what they send, how long a step is predicted to
// take.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>

#include "lathe/scale.h"

namespace lathe {

struct ScalePlan {
  RankGrid grid;
  CommunicationVolume volume;
  KnownRates known;
  std::optional<StepPrediction> predicted;  // nullopt: a rate is missing
  std::int64_t tokens_per_step;
};

// nullopt: no option asks for it.
std::optional<ScalePlan> plan_scale(const ModelConfig& config, const Options& options,
                                    std::int64_t micro_steps);

nlohmann::ordered_json to_json(const ScalePlan& plan);
void print(const ScalePlan& plan);

}  // namespace lathe
