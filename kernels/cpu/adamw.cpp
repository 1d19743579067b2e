// AdamW with bias correction and decoupled decay (Loshchilov & Hutter 2019): one pass over flat
// memory, every element read and written once. The clip factor needs more than fp32 and is made
// once, in double.
#include <algorithm>
#include <cmath>

#include "compute_type.h"
#include "cpu_backend.h"
#include "lathe/schedule.h"

namespace lathe {
namespace {

constexpr std::int64_t kElementsPerTask = 1 << 15;

template <class E>
void update(const AdamWUpdate& op, ElementRange range, float clip, const AdamWCoefficients& k) {
  constexpr bool kHasMaster = !std::is_same_v<E, float>;
  E* const parameter = op.parameter.as<E>();
  float* const master = kHasMaster ? op.master.as<float>() : op.parameter.as<float>();
  float* const m = op.m.as<float>();
  float* const v = op.v.as<float>();
  const float* const gradient = op.gradient.as<float>();
#pragma omp simd
  for (std::int64_t i = range.begin; i < range.end; ++i) {
    const float g = gradient[i] * clip;
    m[i] = k.beta1 * m[i] + k.one_minus_beta1 * g;
    v[i] = k.beta2 * v[i] + k.one_minus_beta2 * (g * g);
    const float old = master[i];
    const float direction = m[i] / (std::sqrt(v[i]) * k.root_correction + k.eps);
    const float updated = old - (k.rate * direction + k.decay * old);
    master[i] = updated;
    if constexpr (kHasMaster) parameter[i] = from_float<E>(updated);
  }
}

// Cuts a range at the borders of the decayed ranges.
template <class E>
void update_task(const AdamWUpdate& op, ElementRange task, float clip,
                 const AdamWCoefficients& decaying) {
  AdamWCoefficients constant = decaying;
  constant.decay = 0;
  auto next = std::lower_bound(
      op.decayed.begin(), op.decayed.end(), task.begin,
      [](const ElementRange& range, std::int64_t begin) { return range.end <= begin; });
  for (std::int64_t begin = task.begin; begin < task.end;) {
    const bool decays = next != op.decayed.end() && next->begin <= begin;
    std::int64_t end = task.end;
    if (next != op.decayed.end()) end = std::min(end, decays ? next->end : next->begin);
    update<E>(op, {begin, end}, clip, decays ? decaying : constant);
    if (decays) ++next;
    begin = end;
  }
}

}  // namespace

void CpuBackend::execute(const AdamWUpdate& op) {
  const std::int64_t P = op.parameter.count();
  const float grad_square_sum = op.grad_square_sum.as<float>()[0];
  if (!is_within(op.limits, op.loss_sum.as<float>()[0], grad_square_sum)) return;
  const double norm = std::sqrt(double{grad_square_sum});
  const auto clip = static_cast<float>(clip_factor(norm, op.grad_clip));
  const AdamWCoefficients k = coefficients(op);
  with_compute_type(op.parameter.type(), [&]<class E>(std::type_identity<E>) {
    parallel_for(ceil_div(P, kElementsPerTask), [&](std::int64_t task) {
      const std::int64_t begin = task * kElementsPerTask;
      update_task<E>(op, {begin, std::min(P, begin + kElementsPerTask)}, clip, k);
    });
  });
}

}  // namespace lathe
