#include "lathe/schedule.h"

#include <fmt/format.h>

#include <algorithm>
#include <numbers>

#include "lathe/error.h"

namespace lathe {
namespace {

// 1 at the start of the decay, 0 at its end; `progress` runs from 0 to 1 over the steps after
// warm-up.
double remaining(LrSchedule kind, double progress) {
  constexpr double kStableShare = 0.8;
  switch (kind) {
    case LrSchedule::cosine:
      return 0.5 * (1 + std::cos(std::numbers::pi * progress));
    case LrSchedule::linear:
      return 1 - progress;
    case LrSchedule::constant:
      return 1;
    case LrSchedule::wsd:
      if (progress <= kStableShare) return 1;
      return 1 - std::sqrt((progress - kStableShare) / (1 - kStableShare));
  }
  return 1;
}

}  // namespace

LrSchedule parse_lr_schedule(std::string_view name) {
  if (name == "cosine") return LrSchedule::cosine;
  if (name == "linear") return LrSchedule::linear;
  if (name == "constant") return LrSchedule::constant;
  if (name == "wsd") return LrSchedule::wsd;
  throw Error(ExitCode::usage,
              fmt::format("--lr-schedule {}: must be one of cosine, linear, constant, wsd", name));
}

double learning_rate(const ScheduleSpec& spec, std::int64_t k) {
  if (k < spec.warmup_steps) {
    return spec.lr * static_cast<double>(k + 1) / static_cast<double>(spec.warmup_steps);
  }
  const std::int64_t decay_steps = spec.total_steps - 1 - spec.warmup_steps;
  const double progress = decay_steps > 0
                              ? std::min(1.0, static_cast<double>(k - spec.warmup_steps) /
                                                  static_cast<double>(decay_steps))
                              : 1.0;
  const double share = remaining(spec.kind, progress);
  return spec.lr * (spec.final_lr_fraction + (1 - spec.final_lr_fraction) * share);
}

}  // namespace lathe
