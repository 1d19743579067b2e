#include "lathe/step_guard.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/number_text.h"

namespace lathe {
namespace {

Verdict parse_verdict(const std::string& on_nonfinite) {
  if (on_nonfinite == "stop") return Verdict::stop;
  return on_nonfinite == "rollback" ? Verdict::rollback : Verdict::skipped;
}

bool is_finite(const DecidedStep& step) {
  return std::isfinite(step.loss) && std::isfinite(step.gradient_norm);
}

struct Spread {
  double mean, deviation;
};

// About the first value, so that equal ones have no deviation but 0.
Spread spread_of(const std::vector<double>& values) {
  const auto count = static_cast<double>(values.size());
  double sum = 0, square_sum = 0;
  for (const double value : values) sum += value - values.front();
  const double mean = values.front() + sum / count;
  for (const double value : values) square_sum += (value - mean) * (value - mean);
  return {.mean = mean, .deviation = std::sqrt(square_sum / count)};
}

// The detector of one quantity.
struct Detector {
  double z;
  std::size_t window;

  bool is_armed(const std::vector<double>& values) const {
    return z > 0 && values.size() >= window;
  }
  double limit(const std::vector<double>& values) const {
    const Spread spread = spread_of(values);
    return spread.mean + z * spread.deviation;
  }
  void add(std::vector<double>& values, double value) const {
    if (z > 0) values.push_back(value);
    const std::size_t most = z > 0 ? window : 0;
    if (values.size() > most) values.erase(values.begin(), values.end() - std::ptrdiff_t(most));
  }
};

}  // namespace

StepGuard::StepGuard(const Options& options, std::int64_t tokens_per_step)
    : on_nonfinite_(parse_verdict(options.on_nonfinite)),
      max_in_row_(options.max_skips),
      loss_z_(options.loss_spike_z),
      norm_z_(options.norm_spike_z),
      window_(static_cast<std::size_t>(options.spike_window)),
      tokens_(static_cast<double>(tokens_per_step)) {}

// A limit above what fp32 holds is none, and none lets infinity in.
UpdateLimits StepGuard::limits(const GuardState& state) const {
  UpdateLimits limits;
  const Detector loss{loss_z_, window_}, norm{norm_z_, window_};
  if (loss.is_armed(state.losses)) {
    limits.loss_sum = std::min(limits.loss_sum, loss.limit(state.losses) * tokens_);
  }
  if (norm.is_armed(state.gradient_norms)) {
    const double most = norm.limit(state.gradient_norms);
    limits.grad_square_sum = std::min(limits.grad_square_sum, most * most);
  }
  return limits;
}

Verdict StepGuard::judge(GuardState& state, const DecidedStep& step) const {
  if (step.updated) {
    Detector{loss_z_, window_}.add(state.losses, step.loss);
    Detector{norm_z_, window_}.add(state.gradient_norms, step.gradient_norm);
    if (step.number >= state.last_refused_step) state.refused_in_row = 0;
    return Verdict::updated;
  }
  const Verdict verdict = is_finite(step) ? Verdict::skipped : on_nonfinite_;
  if (verdict == Verdict::stop) return verdict;
  ++state.refused_in_row;
  state.last_refused_step = std::max(state.last_refused_step, step.number);
  ++(verdict == Verdict::skipped ? state.skipped_steps : state.rollbacks);
  return verdict;
}

std::string StepGuard::reason(const GuardState& state, const DecidedStep& step) const {
  if (!is_finite(step)) {
    const bool has_loss = std::isfinite(step.loss);
    return fmt::format("{} is {} at step {}", has_loss ? "gradient norm" : "training loss",
                       non_finite_text(has_loss ? step.gradient_norm : step.loss), step.number);
  }
  const bool by_loss = step.loss * tokens_ > limits(state).loss_sum;
  const std::vector<double>& values = by_loss ? state.losses : state.gradient_norms;
  const Spread spread = spread_of(values);
  return fmt::format(
      "{} {:.4g} at step {} is an outlier: above {:.4g} + {:.4g} x {:.4g}, mean and "
      "deviation of the last {} updates",
      by_loss ? "training loss" : "gradient norm", by_loss ? step.loss : step.gradient_norm,
      step.number, spread.mean, by_loss ? loss_z_ : norm_z_, spread.deviation, values.size());
}

}  // namespace lathe
