// LayerNorm (Ba et al. 2016). Forward: a warp normalises a row. Backward: a block takes some rows,
// whose number depends on the shape alone, and leaves its own sums for d_gain and d_bias; these are
// then added in the order of the blocks.
#include <algorithm>

#include "cuda_backend.h"
#include "device.cuh"
#include "launch.h"

namespace lathe {
namespace {

using namespace cuda;

constexpr int kThreads = 256;
constexpr int kRowsPerBlock = kThreads / kWarp;  // of forward
constexpr int kBackwardThreads = 128;
constexpr std::int64_t kMaxRowBlocks = 1024;  // of backward: each has sums of its own

template <class E, int W>
__global__ void __launch_bounds__(kThreads)
    layernorm_forward(E* out, float* means, float* rstds, const E* x, const E* gain, const E* bias,
                      std::int64_t N, std::int64_t C) {
  using P = Pack<E, W>;
  const std::int64_t n = std::int64_t{blockIdx.x} * kRowsPerBlock + threadIdx.x / kWarp;
  if (n >= N) return;  // a whole warp
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  const auto* row = reinterpret_cast<const P*>(x + n * C);
  const std::int64_t packs = C / W;
  float sum = 0;
  for (std::int64_t i = lane; i < packs; i += kWarp) {
    const P pack = row[i];
    for (int k = 0; k < W; ++k) sum += widen(pack.values[k]);
  }
  const float mean = warp_sum(sum) / static_cast<float>(C);
  // A second pass: E[x^2] - mean^2 would cancel when the mean is large.
  float square_sum = 0;
  for (std::int64_t i = lane; i < packs; i += kWarp) {
    const P pack = row[i];
    for (int k = 0; k < W; ++k) {
      const float centred = widen(pack.values[k]) - mean;
      square_sum += centred * centred;
    }
  }
  const float variance = warp_sum(square_sum) / static_cast<float>(C);
  const float rstd = 1.0f / sqrtf(variance + LayerNormForward::kEpsilon);
  for (std::int64_t i = lane; i < packs; i += kWarp) {
    const P pack = row[i], gains = reinterpret_cast<const P*>(gain)[i],
            biases = reinterpret_cast<const P*>(bias)[i];
    P result;
    for (int k = 0; k < W; ++k) {
      const float normalised = (widen(pack.values[k]) - mean) * rstd;
      result.values[k] = narrow<E>(normalised * widen(gains.values[k]) + widen(biases.values[k]));
    }
    reinterpret_cast<P*>(out + n * C)[i] = result;
  }
  if (lane == 0) {
    means[n] = mean;
    rstds[n] = rstd;
  }
}

// The operands of a backward, as a kernel takes them.
template <class E>
struct Backward {
  E* d_x;
  float* sums;                  // (blocks, 2, C): d_gain and d_bias of each block's rows
  const E *d_out, *d_residual;  // d_residual may be null
  const E *x, *gain;
  const float *mean, *rstd;
  std::int64_t N, C, rows;  // rows of a block
};

// With g = d_out * gain and y the normalised row:
// d_x = d_residual + rstd * (g - mean(g) - y * mean(g * y)).
// Thread t takes columns t, t + kBackwardThreads, ... and keeps their sums in shared memory.
template <class E>
__global__ void __launch_bounds__(kBackwardThreads) layernorm_backward(Backward<E> op) {
  extern __shared__ float gain_sums[];
  float* bias_sums = gain_sums + op.C;
  const std::int64_t first = threadIdx.x;
  for (std::int64_t c = first; c < op.C; c += kBackwardThreads) gain_sums[c] = bias_sums[c] = 0;
  const std::int64_t begin = blockIdx.x * op.rows, end = min(op.N, begin + op.rows);
  for (std::int64_t n = begin; n < end; ++n) {
    const E *x = op.x + n * op.C, *d_out = op.d_out + n * op.C;
    const float mean = op.mean[n], rstd = op.rstd[n];
    float g_sum = 0, gy_sum = 0;
    for (std::int64_t c = first; c < op.C; c += kBackwardThreads) {
      const float g = widen(d_out[c]) * widen(op.gain[c]);
      g_sum += g;
      gy_sum += g * ((widen(x[c]) - mean) * rstd);
    }
    const float g_mean = block_sum<kBackwardThreads>(g_sum) / static_cast<float>(op.C);
    const float gy_mean = block_sum<kBackwardThreads>(gy_sum) / static_cast<float>(op.C);
    for (std::int64_t c = first; c < op.C; c += kBackwardThreads) {
      const float d = widen(d_out[c]), y = (widen(x[c]) - mean) * rstd;
      gain_sums[c] += d * y;
      bias_sums[c] += d;
      const float d_normal = rstd * (d * widen(op.gain[c]) - g_mean - y * gy_mean);
      const float residual = op.d_residual == nullptr ? 0 : widen(op.d_residual[n * op.C + c]);
      op.d_x[n * op.C + c] = narrow<E>(residual + d_normal);
    }
  }
  float* sums = op.sums + blockIdx.x * 2 * op.C;
  for (std::int64_t c = first; c < op.C; c += kBackwardThreads) {
    sums[c] = gain_sums[c];
    sums[op.C + c] = bias_sums[c];
  }
}

// A thread adds up one column of `blocks` rows of sums, each (2, C): gain, bias.
__global__ void __launch_bounds__(kThreads)
    add_block_sums(float* d_gain, float* d_bias, const float* sums, std::int64_t blocks,
                   std::int64_t C, bool accumulate) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= 2 * C) return;
  float* to = i < C ? d_gain + i : d_bias + (i - C);
  float sum = accumulate ? *to : 0;
  for (std::int64_t block = 0; block < blocks; ++block) sum += sums[block * 2 * C + i];
  *to = sum;
}

}  // namespace

void CudaBackend::execute(const LayerNormForward& op) {
  const std::int64_t N = op.x.size(0), C = op.x.size(1);
  with_compute_type(op.x.type(), [&]<class E>(std::type_identity<E>) {
    const auto start = [&]<int W>(std::integral_constant<int, W>) {
      layernorm_forward<E, W><<<grid_of(ceil_div(N, kRowsPerBlock)), kThreads, 0, stream()>>>(
          op.out.as<E>(), op.mean.as<float>(), op.rstd.as<float>(), op.x.as<E>(), op.gain.as<E>(),
          op.bias.as<E>(), N, C);
    };
    is_wide(C, {op.out, op.x, op.gain, op.bias}) ? start(std::integral_constant<int, kWidest<E>>{})
                                                 : start(std::integral_constant<int, 1>{});
  });
  check_launch(LayerNormForward::kName);
}

void CudaBackend::execute(const LayerNormBackward& op) {
  const std::int64_t N = op.x.size(0), C = op.x.size(1);
  const std::int64_t rows = ceil_div(N, kMaxRowBlocks), blocks = ceil_div(N, rows);
  float* sums = scratch(blocks * 2 * C);
  const auto shared_bytes = static_cast<std::size_t>(2 * C) * sizeof(float);
  with_compute_type(op.x.type(), [&]<class E>(std::type_identity<E>) {
    allow_shared_memory(layernorm_backward<E>, shared_bytes);
    layernorm_backward<E><<<grid_of(blocks), kBackwardThreads, shared_bytes, stream()>>>(
        {.d_x = op.d_x.as<E>(),
         .sums = sums,
         .d_out = op.d_out.as<E>(),
         .d_residual = op.d_residual.empty() ? nullptr : op.d_residual.as<E>(),
         .x = op.x.as<E>(),
         .gain = op.gain.as<E>(),
         .mean = op.mean.as<float>(),
         .rstd = op.rstd.as<float>(),
         .N = N,
         .C = C,
         .rows = rows});
  });
  add_block_sums<<<grid_of(ceil_div(2 * C, kThreads)), kThreads, 0, stream()>>>(
      op.d_gain.as<float>(), op.d_bias.as<float>(), sums, blocks, C, op.accumulate);
  check_launch(LayerNormBackward::kName);
}

}  // namespace lathe
