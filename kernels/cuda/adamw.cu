// AdamW with bias correction and decoupled decay (Loshchilov & Hutter 2019): one launch over flat
// memory, every element read and written once. The clip factor is made on the device from the sum
// of squares, so that the norm needs no round trip.
#include <algorithm>

#include "cuda_backend.h"
#include "device.cuh"
#include "launch.h"

namespace lathe {
namespace {

using namespace cuda;

constexpr int kThreads = 256;
constexpr int kWidth = 4;        // elements of a thread: a pack of 16 bytes of fp32
constexpr int kMaxRanges = 240;  // a launch's parameters are at most 4 KiB

// Where decay applies, as a launch takes it: sorted, disjoint.
struct DecayedRanges {
  int count;
  ElementRange ranges[kMaxRanges];

  // The first range that ends after element i.
  __device__ int first_after(std::int64_t i) const {
    int low = 0, high = count;  // it lies in [low, high]
    while (low < high) {
      const int middle = (low + high) / 2;
      if (ranges[middle].end <= i) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low;
  }
};

template <class E>
struct Update {
  E* parameter;
  float *master, *m, *v;  // with fp32 parameters they are the master
  const float *gradient, *grad_square_sum, *loss_sum;
  std::int64_t begin, end;  // of the elements of this launch; begin is a multiple of kWidth
  bool aligned;             // all of them, to 16 bytes
  UpdateLimits limits;
  double grad_clip;
  AdamWCoefficients coefficients;
};

__device__ float clip_factor(float square_sum, double grad_clip) {
  if (grad_clip == 0) return 1;
  const double factor = grad_clip / (sqrt(double{square_sum}) + 1e-6);
  return static_cast<float>(factor > 1 ? 1 : factor);
}

struct Element {
  float master, m, v;
};

// The same formula as on the CPU (kernels/cpu/adamw.cpp).
__device__ Element updated(const AdamWCoefficients& k, const Element& old, float gradient,
                           float decay) {
  const float m = k.beta1 * old.m + k.one_minus_beta1 * gradient;
  const float v = k.beta2 * old.v + k.one_minus_beta2 * (gradient * gradient);
  const float direction = m / (sqrtf(v) * k.root_correction + k.eps);
  return {old.master - (k.rate * direction + decay * old.master), m, v};
}

// A thread takes a pack.
template <class E>
__global__ void __launch_bounds__(kThreads)
    adamw_update(const __grid_constant__ Update<E> op,
                 const __grid_constant__ DecayedRanges decayed) {
  using Floats = Pack<float, kWidth>;
  const auto flat = [&](auto* values) { return Flat{values, op.end, op.aligned}; };
  const std::int64_t first =
      op.begin + (std::int64_t{blockIdx.x} * kThreads + threadIdx.x) * kWidth;
  // In flight while the clip factor is made.
  const Floats gradient = flat(op.gradient).template load<kWidth>(first);
  Floats master = flat(op.master).template load<kWidth>(first),
         m = flat(op.m).template load<kWidth>(first), v = flat(op.v).template load<kWidth>(first);
  if (!is_within(op.limits, *op.loss_sum, *op.grad_square_sum)) return;
  __shared__ float clip;
  if (threadIdx.x == 0) clip = clip_factor(*op.grad_square_sum, op.grad_clip);
  __syncthreads();
  Pack<E, kWidth> parameter;
  int range = decayed.first_after(first);
#pragma unroll
  for (int k = 0; k < kWidth; ++k) {
    const std::int64_t i = first + k;
    while (range < decayed.count && decayed.ranges[range].end <= i) ++range;
    const bool decays = range < decayed.count && decayed.ranges[range].begin <= i;
    const Element old{master.values[k], m.values[k], v.values[k]};
    const float decay = decays ? op.coefficients.decay : 0.0f;
    const Element now = updated(op.coefficients, old, gradient.values[k] * clip, decay);
    master.values[k] = now.master;
    m.values[k] = now.m;
    v.values[k] = now.v;
    parameter.values[k] = narrow<E>(now.master);
  }
  flat(op.m).store(first, m);
  flat(op.v).store(first, v);
  flat(op.master).store(first, master);
  if constexpr (!std::is_same_v<E, float>) flat(op.parameter).store(first, parameter);
}

template <class E>
Update<E> make_update(const AdamWUpdate& op) {
  return {.parameter = op.parameter.as<E>(),
          .master = (op.master.empty() ? op.parameter : op.master).template as<float>(),
          .m = op.m.as<float>(),
          .v = op.v.as<float>(),
          .gradient = op.gradient.as<float>(),
          .grad_square_sum = op.grad_square_sum.as<float>(),
          .loss_sum = op.loss_sum.as<float>(),
          .begin = 0,
          .end = 0,
          .aligned = is_aligned({op.parameter, op.master, op.m, op.v, op.gradient}),
          .limits = op.limits,
          .grad_clip = op.grad_clip,
          .coefficients = coefficients(op)};
}

}  // namespace

// A model of more blocks than a launch takes ranges is updated in several.
void CudaBackend::execute(const AdamWUpdate& op) {
  const std::int64_t count = op.parameter.count();
  with_compute_type(op.parameter.type(), [&]<class E>(std::type_identity<E>) {
    Update<E> update = make_update<E>(op);
    std::span<const ElementRange> left = op.decayed;
    do {
      const auto taken = std::min<std::size_t>(left.size(), kMaxRanges);
      DecayedRanges decayed{.count = static_cast<int>(taken), .ranges = {}};
      std::copy_n(left.begin(), taken, decayed.ranges);
      // Whole packs: the last range taken may reach into the next launch.
      update.end = taken < left.size() ? left[taken].begin / kWidth * kWidth : count;
      const std::int64_t blocks = ceil_div(update.end - update.begin, kThreads * kWidth);
      adamw_update<E><<<grid_of(blocks), kThreads, 0, stream()>>>(update, decayed);
      update.begin = update.end;
      while (!left.empty() && left.front().end <= update.begin) left = left.subspan(1);
    } while (update.begin < count);
  });
  check_launch(AdamWUpdate::kName);
}

}  // namespace lathe
