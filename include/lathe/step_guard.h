// What a run does about steps that would spoil it: those whose loss or gradient norm is not finite,
// and, when asked to look, those far above the last ones. Neither reaches the weights: the limits
// of a step are known before it, and the device compares (update_limits.h). What is here says where
// the limits are, and what becomes of the run.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lathe/options.h"
#include "lathe/update_limits.h"

namespace lathe {

// What a checkpoint holds of it.
struct GuardState {
  std::int64_t skipped_steps = 0;  // of the steps that the run stands behind
  std::int64_t rollbacks = 0;
  std::int64_t refused_in_row = 0;             // skipped steps and rollbacks
  std::int64_t last_refused_step = 0;          // the row ends when this step is behind
  std::vector<double> losses, gradient_norms;  // of the last updates, the oldest first
  bool operator==(const GuardState&) const = default;
};

// A step whose update has been decided on.
struct DecidedStep {
  std::int64_t number;         // 1 for the first
  double loss, gradient_norm;  // mean over its tokens; before clipping
  bool updated;
};

enum class Verdict { updated, skipped, stop, rollback };

class StepGuard {
 public:
  StepGuard(const Options& options, std::int64_t tokens_per_step);

  // Of the next step's sums.
  UpdateLimits limits(const GuardState& state) const;

  // What becomes of the run after the step. Counts it; one that was not updated changes no window.
  Verdict judge(GuardState& state, const DecidedStep& step) const;

  // Whether so many steps were refused in a row that the run ends.
  bool gives_up(const GuardState& state) const { return state.refused_in_row >= max_in_row_; }

  // Why a step was not updated, before judge() has counted it: "training loss is nan at step 12".
  std::string reason(const GuardState& state, const DecidedStep& step) const;

 private:
  Verdict on_nonfinite_;
  std::int64_t max_in_row_;
  double loss_z_, norm_z_;
  std::size_t window_;
  double tokens_;
};

}  // namespace lathe
