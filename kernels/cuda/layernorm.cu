// LayerNorm (Ba et al. 2016). A warp takes a row, in both directions, and keeps it in registers. In
// the backward pass a block takes some rows, whose number depends on the shape alone, and leaves
// its own sums for d_gain and d_bias; these are then added in the order of the blocks. Rows that no
// registers hold or that are no whole 16 bytes are read as often as needed, by a block in the
// backward pass.
#include <algorithm>

#include "cuda_backend.h"
#include "device.cuh"
#include "launch.h"
#include "partial_sums.h"

namespace lathe {
namespace {

using namespace cuda;

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;
constexpr int kMaxPacks = 7;  // of a row, in a lane's registers: up to 1792 channels of bf16
constexpr int kBackwardThreads = 128;
constexpr int kBackwardWarps = kBackwardThreads / kWarp;
constexpr int kBlocksPerProcessor = 4;                          // of backward
constexpr std::int64_t kRowBlocks = kBlocksPerProcessor * 132;  // a wave of an H100

__device__ int lane_index() {
  return static_cast<int>(threadIdx.x) % kWarp;
}

// The packs of a row that are a lane's: lane, lane + 32, ... Kept when there are at most Packs,
// read each time when Packs is 0. A row that is not there, null, is zeros.
template <class E, int W, int Packs>
class LaneRow {
 public:
  using P = Pack<E, W>;

  __device__ LaneRow(const E* row, std::int64_t C)
      : row_(reinterpret_cast<const P*>(row)), packs_(static_cast<int>(C / W)) {
    for (int p = 0; p < Packs; ++p) {
      const int i = lane_index() + p * kWarp;
      if (i < packs_) kept_[p] = row == nullptr ? P{} : row_[i];
    }
  }

  __device__ const P& operator[](int p) const { return kept_[p]; }

  // Calls function(p, i, pack) for the lane's p-th pack, which is the row's i-th.
  template <class Function>
  __device__ void each(const Function& function) const {
    if constexpr (Packs > 0) {
#pragma unroll
      for (int p = 0; p < Packs; ++p) {
        const int i = lane_index() + p * kWarp;
        if (i < packs_) function(p, i, kept_[p]);
      }
    } else {
      for (int i = lane_index(); i < packs_; i += kWarp) {
        const P pack = row_[i];
        function(i / kWarp, i, pack);
      }
    }
  }

 private:
  const P* row_;
  int packs_;
  P kept_[Packs > 0 ? Packs : 1];
};

template <class E, int W, int Packs>
__global__ void __launch_bounds__(kThreads)
    layernorm_forward(E* out, float* means, float* rstds, const E* x, const E* gain, const E* bias,
                      std::int64_t N, std::int64_t C) {
  using P = Pack<E, W>;
  const std::int64_t n = std::int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarp;
  if (n >= N) return;  // a whole warp
  const LaneRow<E, W, Packs> row(x + n * C, C);
  float sum = 0;
  row.each([&](int, int, const P& pack) {
    for (int k = 0; k < W; ++k) sum += widen(pack.values[k]);
  });
  const float mean = warp_sum(sum) / static_cast<float>(C);
  // A second pass: E[x^2] - mean^2 would cancel when the mean is large.
  float square_sum = 0;
  row.each([&](int, int, const P& pack) {
    for (int k = 0; k < W; ++k) {
      const float centred = widen(pack.values[k]) - mean;
      square_sum += centred * centred;
    }
  });
  const float variance = warp_sum(square_sum) / static_cast<float>(C);
  const float rstd = 1.0f / sqrtf(variance + LayerNormForward::kEpsilon);
  row.each([&](int, int i, const P& pack) {
    const P gains = reinterpret_cast<const P*>(gain)[i],
            biases = reinterpret_cast<const P*>(bias)[i];
    P result;
    for (int k = 0; k < W; ++k) {
      const float normalised = (widen(pack.values[k]) - mean) * rstd;
      result.values[k] = narrow<E>(normalised * widen(gains.values[k]) + widen(biases.values[k]));
    }
    reinterpret_cast<P*>(out + n * C)[i] = result;
  });
  if (lane_index() == 0) {
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

// A warp's sums for d_gain and d_bias in shared memory, each lane's in its own bank.
template <int W, int Packs>
struct WarpSums {
  float values[Packs][W][2][kWarp];  // of gain, of bias

  __device__ void clear() {
    for (int i = lane_index(); i < Packs * W * 2 * kWarp; i += kWarp) (&values[0][0][0][0])[i] = 0;
  }
  // Of column c; `which` is 0 for gain, 1 for bias.
  __device__ float at(int which, std::int64_t c) const {
    const auto pack = static_cast<int>(c / W), k = static_cast<int>(c % W);
    return values[pack / kWarp][k][which][pack % kWarp];
  }
};

// With g = d_out * gain and y the normalised row:
// d_x = d_residual + rstd * (g - mean(g) - y * mean(g * y)).
template <class E, int W, int Packs>
__device__ void row_gradients(const Backward<E>& op, std::int64_t n, WarpSums<W, Packs>& sums) {
  using P = Pack<E, W>;
  const LaneRow<E, W, Packs> x(op.x + n * op.C, op.C), d_out(op.d_out + n * op.C, op.C);
  const float mean = op.mean[n], rstd = op.rstd[n];
  const auto* gains = reinterpret_cast<const P*>(op.gain);
  float g_sum = 0, gy_sum = 0;
  x.each([&](int p, int i, const P& x_pack) {
    const P gain = gains[i];
    for (int k = 0; k < W; ++k) {
      const float g = widen(d_out[p].values[k]) * widen(gain.values[k]);
      g_sum += g;
      gy_sum += g * ((widen(x_pack.values[k]) - mean) * rstd);
    }
  });
  const LaneRow<E, W, Packs> d_residual(
      op.d_residual == nullptr ? nullptr : op.d_residual + n * op.C, op.C);
  const float g_mean = warp_sum(g_sum) / static_cast<float>(op.C);
  const float gy_mean = warp_sum(gy_sum) / static_cast<float>(op.C);
  x.each([&](int p, int i, const P& x_pack) {
    const P gain = gains[i];
    P result = d_residual[p];
    for (int k = 0; k < W; ++k) {
      const float d = widen(d_out[p].values[k]), y = (widen(x_pack.values[k]) - mean) * rstd;
      sums.values[p][k][0][lane_index()] += d * y;
      sums.values[p][k][1][lane_index()] += d;
      const float d_normal = rstd * (d * widen(gain.values[k]) - g_mean - y * gy_mean);
      result.values[k] = narrow<E>(widen(result.values[k]) + d_normal);
    }
    reinterpret_cast<P*>(op.d_x + n * op.C)[i] = result;
  });
}

// A warp takes every kWarps-th of the block's rows; then their sums add up in order.
template <class E, int W, int Packs>
__global__ void __launch_bounds__(kBackwardThreads, Packs <= 4 ? 4 : 2)
    layernorm_backward(const __grid_constant__ Backward<E> op) {
  extern __shared__ uint4 memory[];
  auto* sums = reinterpret_cast<WarpSums<W, Packs>*>(memory);
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const std::int64_t begin = blockIdx.x * op.rows, end = min(op.N, begin + op.rows);
  sums[warp].clear();
  for (std::int64_t n = begin + warp; n < end; n += kBackwardWarps) {
    row_gradients(op, n, sums[warp]);
  }
  __syncthreads();
  float* to = op.sums + blockIdx.x * 2 * op.C;
  for (std::int64_t i = threadIdx.x; i < 2 * op.C; i += kBackwardThreads) {
    float total = 0;
    for (int w = 0; w < kBackwardWarps; ++w) total += sums[w].at(i < op.C ? 0 : 1, i % op.C);
    to[i] = total;
  }
}

// Rows of any length, one after another, in packs of W: 1 for rows of any address. Thread t takes
// packs t, t + kBackwardThreads, ... and keeps their columns' sums in shared memory, where those of
// the k-th column of every pack stand side by side.
template <class E, int W>
__global__ void __launch_bounds__(kBackwardThreads) layernorm_backward_any(Backward<E> op) {
  using P = Pack<E, W>;
  extern __shared__ float gain_sums[];
  float* bias_sums = gain_sums + op.C;
  const std::int64_t first = threadIdx.x, packs = op.C / W;
  for (std::int64_t c = first; c < 2 * op.C; c += kBackwardThreads) gain_sums[c] = 0;
  const auto* gains = reinterpret_cast<const P*>(op.gain);
  const std::int64_t begin = blockIdx.x * op.rows, end = min(op.N, begin + op.rows);
  for (std::int64_t n = begin; n < end; ++n) {
    const auto* x = reinterpret_cast<const P*>(op.x + n * op.C);
    const auto* d_out = reinterpret_cast<const P*>(op.d_out + n * op.C);
    const float mean = op.mean[n], rstd = op.rstd[n];
    float g_sum = 0, gy_sum = 0;
    for (std::int64_t i = first; i < packs; i += kBackwardThreads) {
      const P x_pack = x[i], d_pack = d_out[i], gain = gains[i];
      for (int k = 0; k < W; ++k) {
        const float g = widen(d_pack.values[k]) * widen(gain.values[k]);
        g_sum += g;
        gy_sum += g * ((widen(x_pack.values[k]) - mean) * rstd);
      }
    }
    const float g_mean = block_sum<kBackwardThreads>(g_sum) / static_cast<float>(op.C);
    const float gy_mean = block_sum<kBackwardThreads>(gy_sum) / static_cast<float>(op.C);
    for (std::int64_t i = first; i < packs; i += kBackwardThreads) {
      const P x_pack = x[i], d_pack = d_out[i], gain = gains[i];
      P result{};
      if (op.d_residual != nullptr) {
        result = reinterpret_cast<const P*>(op.d_residual + n * op.C)[i];
      }
      for (int k = 0; k < W; ++k) {
        const float d = widen(d_pack.values[k]), y = (widen(x_pack.values[k]) - mean) * rstd;
        gain_sums[k * packs + i] += d * y;
        bias_sums[k * packs + i] += d;
        const float d_normal = rstd * (d * widen(gain.values[k]) - g_mean - y * gy_mean);
        result.values[k] = narrow<E>(widen(result.values[k]) + d_normal);
      }
      reinterpret_cast<P*>(op.d_x + n * op.C)[i] = result;
    }
  }
  __syncthreads();
  float* sums = op.sums + blockIdx.x * 2 * op.C;
  for (std::int64_t c = first; c < op.C; c += kBackwardThreads) {
    sums[c] = gain_sums[c % W * packs + c / W];
    sums[op.C + c] = bias_sums[c % W * packs + c / W];
  }
}

// Calls function(std::integral_constant<int, Packs>{}) with the least number of packs a lane that
// hold a row of `packs`; false when registers do not.
template <int Packs = 1, class Function>
bool with_packs(std::int64_t packs, const Function& function) {
  if constexpr (Packs <= kMaxPacks) {
    if (packs > Packs * kWarp) return with_packs<Packs + 1>(packs, function);
    function(std::integral_constant<int, Packs>{});
    return true;
  } else {
    return false;
  }
}

template <class E>
void start(const LayerNormForward& op, cudaStream_t stream) {
  const std::int64_t N = op.x.size(0), C = op.x.size(1);
  const auto start = [&]<int W, int Packs>(std::integral_constant<int, W>,
                                           std::integral_constant<int, Packs>) {
    layernorm_forward<E, W, Packs><<<grid_of(ceil_div(N, kWarps)), kThreads, 0, stream>>>(
        op.out.as<E>(), op.mean.as<float>(), op.rstd.as<float>(), op.x.as<E>(), op.gain.as<E>(),
        op.bias.as<E>(), N, C);
  };
  constexpr std::integral_constant<int, kWidest<E>> kWide;
  constexpr std::integral_constant<int, 0> kNotKept;
  if (!is_wide(C, {op.out, op.x, op.gain, op.bias})) {
    start(std::integral_constant<int, 1>{}, kNotKept);
  } else if (!with_packs(C / kWide, [&](auto packs) { start(kWide, packs); })) {
    start(kWide, kNotKept);
  }
}

template <class E>
void start(const LayerNormBackward& op, const Backward<E>& operands, std::int64_t blocks,
           cudaStream_t stream) {
  const auto start = [&](auto kernel, std::size_t shared_bytes) {
    allow_shared_memory(kernel, shared_bytes);
    kernel<<<grid_of(blocks), kBackwardThreads, shared_bytes, stream>>>(operands);
  };
  constexpr int kWide = kWidest<E>;
  const auto start_packs = [&]<int Packs>(std::integral_constant<int, Packs>) {
    start(layernorm_backward<E, kWide, Packs>, kBackwardWarps * sizeof(WarpSums<kWide, Packs>));
  };
  const auto sums_bytes = static_cast<std::size_t>(2 * operands.C) * sizeof(float);
  if (!is_wide(operands.C, {op.d_x, op.d_out, op.d_residual, op.x, op.gain})) {
    start(layernorm_backward_any<E, 1>, sums_bytes);
  } else if (!with_packs(operands.C / kWide, start_packs)) {
    start(layernorm_backward_any<E, kWide>, sums_bytes);
  }
}

}  // namespace

void CudaBackend::execute(const LayerNormForward& op) {
  with_compute_type(op.x.type(), [&]<class E>(std::type_identity<E>) { start<E>(op, stream()); });
  check_launch(LayerNormForward::kName);
}

void CudaBackend::execute(const LayerNormBackward& op) {
  const std::int64_t N = op.x.size(0), C = op.x.size(1);
  const std::int64_t rows = std::max<std::int64_t>(kBackwardWarps, ceil_div(N, kRowBlocks));
  const std::int64_t blocks = ceil_div(N, rows);
  float* sums = scratch(blocks * 2 * C);
  with_compute_type(op.x.type(), [&]<class E>(std::type_identity<E>) {
    start<E>(op,
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
              .rows = rows},
             blocks, stream());
  });
  add_partial_sums({.values = sums,
                    .blocks = blocks,
                    .C = C,
                    .outs = {op.d_gain.as<float>(), op.d_bias.as<float>()},
                    .accumulate = op.accumulate},
                   stream());
  check_launch(LayerNormBackward::kName);
}

}  // namespace lathe
