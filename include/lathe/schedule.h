// Learning-rate schedules and gradient clipping, as pure functions.
#pragma once

#include <cmath>
#include <cstdint>
#include <string_view>

namespace lathe {

enum class LrSchedule { cosine, linear, constant, wsd };

LrSchedule parse_lr_schedule(std::string_view name);  // throws Error(usage)

struct ScheduleSpec {
  LrSchedule kind;
  double lr;                 // the highest
  double final_lr_fraction;  // of lr, reached at the last step (constant: never)
  std::int64_t warmup_steps;
  std::int64_t total_steps;  // of the whole horizon
};

// Learning rate of step k, counted from 0. Warm-up: lr * (k + 1) / warmup_steps. Then cosine or
// linear decay; wsd (warmup, stable, decay: Hu et al. 2024) holds lr until the last fifth of the
// steps after warm-up, then falls as 1 - sqrt (Haegele et al. 2024).
double learning_rate(const ScheduleSpec& spec, std::int64_t k);

// What gradients of this global norm are multiplied by; grad_clip 0 is off.
inline double clip_factor(double norm, double grad_clip) {
  if (grad_clip == 0) return 1;
  const double factor = grad_clip / (norm + 1e-6);
  return factor > 1 ? 1 : factor;  // not std::min: a NaN norm must reach the parameters
}

}  // namespace lathe
