#include "lathe/stop_rules.h"

#include <fmt/format.h>

namespace lathe {
namespace {

void end_run(StopRuleState& state, const std::string& reason, const std::string& detail) {
  if (!state.end_reason.empty()) return;
  state.end_reason = reason;
  state.end_detail = detail;
}

}  // namespace

StopRules::StopRules(const Options& options)
    : target_val_loss_(options.target_val_loss), patience_(options.patience) {
  for (const std::string& text : options.stop_if) rules_.push_back(parse_stop_rule(text));
}

void StopRules::observe(StopRuleState& state, std::int64_t step, StopMetric metric,
                        double value) const {
  for (const StopRule& rule : rules_) {
    if (rule.metric != metric || step < rule.first_step) continue;
    if (rule.above ? value > rule.value : value < rule.value) {
      end_run(state, "stop_if", rule.text);
    }
  }
}

void StopRules::observe_validation(StopRuleState& state, std::int64_t step, double loss) const {
  if (target_val_loss_ > 0 && loss <= target_val_loss_) {
    end_run(state, "target_val_loss", fmt::format("val_loss<={}", target_val_loss_));
  }
  observe(state, step, StopMetric::val_loss, loss);
  if (!state.best_val_loss || loss < *state.best_val_loss) {
    state.best_val_loss = loss;
    state.validations_without_best = 0;
  } else {
    ++state.validations_without_best;
  }
  if (patience_ > 0 && state.validations_without_best >= patience_) {
    end_run(state, "patience",
            fmt::format("{} validation{} without a new best", state.validations_without_best,
                        state.validations_without_best == 1 ? "" : "s"));
  }
}

}  // namespace lathe
