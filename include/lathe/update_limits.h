// Which steps reach the parameters. The device decides, before it writes anything, and the host
// decides again when it has the sums: with this one function, so that they never disagree.
#pragma once

#include <limits>

namespace lathe {

// The most that a step's sums may be. Neither is infinite: what is not finite is above any limit.
struct UpdateLimits {
  static constexpr double kNone = std::numeric_limits<float>::max();
  double loss_sum = kNone;         // of the step's tokens, nats
  double grad_square_sum = kNone;  // of the gradient before clipping
};

// Written so that NaN and minus infinity fail.
constexpr bool is_within(const UpdateLimits& limits, float loss_sum, float grad_square_sum) {
  const float loss_size = loss_sum < 0 ? -loss_sum : loss_sum;
  const float square_size = grad_square_sum < 0 ? -grad_square_sum : grad_square_sum;
  return double{loss_size} <= limits.loss_sum && double{square_size} <= limits.grad_square_sum;
}

}  // namespace lathe
