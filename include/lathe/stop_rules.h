// Rules by which a run ends before its last step: --stop-if, --target-val-loss, --patience. Such a
// run has finished. What the rules count is in the checkpoint, so a run that was interrupted ends
// at the same step as one that was not.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lathe/options.h"

namespace lathe {

enum class StopMetric { val_loss, train_loss, grad_norm, tokens_per_second };
inline constexpr std::array<std::string_view, 4> kStopMetrics = {"val_loss", "train_loss",
                                                                 "grad_norm", "tokens_per_second"};

// One of --stop-if.
struct StopRule {
  StopMetric metric;
  bool above;  // or below
  double value;
  std::int64_t first_step;  // from which on it counts
  std::string text;         // as it was given
};

// "METRIC>VALUE" or "METRIC<VALUE", with "@STEP" behind it or not. Throws Error(usage).
StopRule parse_stop_rule(const std::string& text);

struct StopRuleState {
  std::optional<double> best_val_loss;  // of the validations that come every --val-every steps
  std::int64_t validations_without_best = 0;
  std::string end_reason, end_detail;  // of the rule that has ended the run; "": none has
  bool operator==(const StopRuleState&) const = default;
};

class StopRules {
 public:
  explicit StopRules(const Options& options);

  // What was measured at a step. The first rule that it meets ends the run.
  void observe(StopRuleState& state, std::int64_t step, StopMetric metric, double value) const;
  void observe_validation(StopRuleState& state, std::int64_t step, double loss) const;

 private:
  std::vector<StopRule> rules_;
  double target_val_loss_;
  std::int64_t patience_;
};

}  // namespace lathe
