// AdamW with bias correction and decoupled decay (Loshchilov & Hutter 2019): one launch over flat
// memory, every element read and written once. The clip factor is made on the device from the sum
// of squares, so that the norm needs no round trip.
#include <algorithm>
#include <cmath>

#include "cuda_backend.h"
#include "device.cuh"
#include "launch.h"

namespace lathe {
namespace {

using namespace cuda;

constexpr int kThreads = 256;
constexpr int kWidth = 4;        // elements of a thread: 16 bytes of fp32
constexpr int kMaxRanges = 240;  // a launch's parameters are at most 4 KiB

// Where decay applies, as a launch takes it: sorted, disjoint.
struct DecayedRanges {
  int count;
  ElementRange ranges[kMaxRanges];

  __device__ bool contain(std::int64_t i) const {
    int low = 0, high = count;  // the first range that ends after i lies in [low, high]
    while (low < high) {
      const int middle = (low + high) / 2;
      if (ranges[middle].end <= i) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low < count && ranges[low].begin <= i;
  }
};

template <class E>
struct Update {
  E* parameter;
  float *master, *m, *v;  // master is null with fp32 parameters
  const float *gradient, *grad_square_sum, *loss_sum;
  std::int64_t begin, end;  // of the elements of this launch
  float beta1, beta2, one_minus_beta1, one_minus_beta2, rate, root_correction, eps, decay;
  double grad_clip;
};

__device__ float clip_factor(float square_sum, double grad_clip) {
  if (grad_clip == 0) return 1;
  const double factor = grad_clip / (sqrt(double{square_sum}) + 1e-6);
  return static_cast<float>(factor > 1 ? 1 : factor);
}

// The same formula as on the CPU (kernels/cpu/adamw.cpp).
template <class E>
__device__ void update_element(const Update<E>& op, std::int64_t i, float clip, float decay) {
  float* master = op.master;
  if constexpr (std::is_same_v<E, float>) master = op.parameter;
  const float g = op.gradient[i] * clip;
  const float m = op.beta1 * op.m[i] + op.one_minus_beta1 * g;
  const float v = op.beta2 * op.v[i] + op.one_minus_beta2 * (g * g);
  const float old = master[i];
  const float direction = m / (sqrtf(v) * op.root_correction + op.eps);
  const float updated = old - (op.rate * direction + decay * old);
  op.m[i] = m;
  op.v[i] = v;
  master[i] = updated;
  if constexpr (!std::is_same_v<E, float>) op.parameter[i] = narrow<E>(updated);
}

template <class E>
__global__ void __launch_bounds__(kThreads)
    adamw_update(const __grid_constant__ Update<E> op,
                 const __grid_constant__ DecayedRanges decayed) {
  if (!isfinite(*op.grad_square_sum) || !isfinite(*op.loss_sum)) return;
  __shared__ float clip;
  if (threadIdx.x == 0) clip = clip_factor(*op.grad_square_sum, op.grad_clip);
  __syncthreads();
  const std::int64_t first = op.begin + std::int64_t{blockIdx.x} * kThreads * kWidth + threadIdx.x;
  for (int k = 0; k < kWidth; ++k) {
    const std::int64_t i = first + std::int64_t{k} * kThreads;
    if (i < op.end) update_element(op, i, clip, decayed.contain(i) ? op.decay : 0.0f);
  }
}

template <class E>
Update<E> make_update(const AdamWUpdate& op) {
  const auto step = static_cast<double>(op.step);
  const double correction1 = 1 - std::pow(op.beta1, step);
  const double correction2 = 1 - std::pow(op.beta2, step);
  return {.parameter = op.parameter.as<E>(),
          .master = op.master.empty() ? nullptr : op.master.as<float>(),
          .m = op.m.as<float>(),
          .v = op.v.as<float>(),
          .gradient = op.gradient.as<float>(),
          .grad_square_sum = op.grad_square_sum.as<float>(),
          .loss_sum = op.loss_sum.as<float>(),
          .begin = 0,
          .end = op.parameter.count(),
          .beta1 = static_cast<float>(op.beta1),
          .beta2 = static_cast<float>(op.beta2),
          .one_minus_beta1 = static_cast<float>(1 - op.beta1),
          .one_minus_beta2 = static_cast<float>(1 - op.beta2),
          .rate = static_cast<float>(op.learning_rate / correction1),
          .root_correction = static_cast<float>(1 / std::sqrt(correction2)),
          .eps = static_cast<float>(op.eps),
          .decay = static_cast<float>(op.learning_rate * op.weight_decay),
          .grad_clip = op.grad_clip};
}

}  // namespace

// A model of more blocks than a launch takes ranges is updated in several.
void CudaBackend::execute(const AdamWUpdate& op) {
  with_compute_type(op.parameter.type(), [&]<class E>(std::type_identity<E>) {
    Update<E> update = make_update<E>(op);
    std::span<const ElementRange> left = op.decayed;
    do {
      const auto count = std::min<std::size_t>(left.size(), kMaxRanges);
      DecayedRanges decayed{.count = static_cast<int>(count), .ranges = {}};
      std::copy_n(left.begin(), count, decayed.ranges);
      left = left.subspan(count);
      update.end = left.empty() ? op.parameter.count() : left.front().begin;
      const std::int64_t blocks = ceil_div(update.end - update.begin, kThreads * kWidth);
      adamw_update<E><<<grid_of(blocks), kThreads, 0, stream()>>>(update, decayed);
      update.begin = update.end;
    } while (!left.empty());
  });
  check_launch(AdamWUpdate::kName);
}

}  // namespace lathe
