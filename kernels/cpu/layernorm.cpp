// LayerNorm (Ba et al. 2016). A row is normalised in one task while it is in the cache. Backward
// cuts the rows into blocks, whose number depends on their count alone; each leaves its own sums
// for d_gain and d_bias, and these are then added in the order of the blocks.
#include <algorithm>
#include <cmath>

#include "compute_type.h"
#include "cpu_backend.h"
#include "scratch.h"

namespace lathe {
namespace {

constexpr std::int64_t kRowsPerTask = 16;
constexpr std::int64_t kMaxRowBlocks = 64;  // of backward: each has sums of its own
constexpr std::int64_t kColumnsPerTask = 128;

template <class E>
void forward_row(const LayerNormForward& op, std::int64_t n) {
  const std::int64_t C = op.x.size(1);
  const E* x = op.x.as<E>() + n * C;
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t c = 0; c < C; ++c) sum += to_float(x[c]);
  const float mean = sum / static_cast<float>(C);
  // A second pass: E[x^2] - mean^2 would cancel when the mean is large.
  float square_sum = 0;
#pragma omp simd reduction(+ : square_sum)
  for (std::int64_t c = 0; c < C; ++c) {
    const float centred = to_float(x[c]) - mean;
    square_sum += centred * centred;
  }
  const float variance = square_sum / static_cast<float>(C);
  const float rstd = 1.0f / std::sqrt(variance + LayerNormForward::kEpsilon);
  const E* gain = op.gain.as<E>();
  const E* bias = op.bias.as<E>();
  E* out = op.out.as<E>() + n * C;
#pragma omp simd
  for (std::int64_t c = 0; c < C; ++c) {
    const float normalised = (to_float(x[c]) - mean) * rstd;
    out[c] = from_float<E>(normalised * to_float(gain[c]) + to_float(bias[c]));
  }
  op.mean.as<float>()[n] = mean;
  op.rstd.as<float>()[n] = rstd;
}

// What a block of rows adds to the parameters' gradients: (C) each.
struct ParameterSums {
  float *d_gain, *d_bias;
};

// With g = d_out * gain and y the normalised row:
// d_x = d_residual + rstd * (g - mean(g) - y * mean(g * y)).
template <class E>
void backward_row(const LayerNormBackward& op, std::int64_t n, ParameterSums sums) {
  const std::int64_t C = op.x.size(1);
  const float mean = op.mean.as<float>()[n], rstd = op.rstd.as<float>()[n];
  const E* x = op.x.as<E>() + n * C;
  const E* d_out = op.d_out.as<E>() + n * C;
  const E* gain = op.gain.as<E>();
  float g_sum = 0, gy_sum = 0;
#pragma omp simd reduction(+ : g_sum, gy_sum)
  for (std::int64_t c = 0; c < C; ++c) {
    const float g = to_float(d_out[c]) * to_float(gain[c]);
    g_sum += g;
    gy_sum += g * ((to_float(x[c]) - mean) * rstd);
  }
  const float g_mean = g_sum / static_cast<float>(C), gy_mean = gy_sum / static_cast<float>(C);
  E* d_x = op.d_x.as<E>() + n * C;
  const auto finish = [&](const auto& residual_at) {
#pragma omp simd
    for (std::int64_t c = 0; c < C; ++c) {
      const float d = to_float(d_out[c]), y = (to_float(x[c]) - mean) * rstd;
      sums.d_gain[c] += d * y;
      sums.d_bias[c] += d;
      const float d_normal = rstd * (d * to_float(gain[c]) - g_mean - y * gy_mean);
      d_x[c] = from_float<E>(residual_at(c) + d_normal);
    }
  };
  if (op.d_residual.empty()) {
    finish([](std::int64_t) { return 0.0f; });
  } else {
    const E* d_residual = op.d_residual.as<E>() + n * C;
    finish([=](std::int64_t c) { return to_float(d_residual[c]); });
  }
}

// Adds up columns [begin, end) of `blocks` rows of sums, each (2, C): gain, bias.
void add_block_sums(const LayerNormBackward& op, const float* sums, std::int64_t blocks,
                    ElementRange columns) {
  const std::int64_t C = op.x.size(1);
  float* d_gain = op.d_gain.as<float>();
  float* d_bias = op.d_bias.as<float>();
  if (!op.accumulate) {
    std::fill(d_gain + columns.begin, d_gain + columns.end, 0.0f);
    std::fill(d_bias + columns.begin, d_bias + columns.end, 0.0f);
  }
  for (std::int64_t i = 0; i < blocks; ++i) {
    const float* gain_sums = sums + 2 * i * C;
    const float* bias_sums = gain_sums + C;
#pragma omp simd
    for (std::int64_t c = columns.begin; c < columns.end; ++c) {
      d_gain[c] += gain_sums[c];
      d_bias[c] += bias_sums[c];
    }
  }
}

}  // namespace

void CpuBackend::execute(const LayerNormForward& op) {
  const std::int64_t N = op.x.size(0);
  with_compute_type(op.x.type(), [&]<class E>(std::type_identity<E>) {
    parallel_for(ceil_div(N, kRowsPerTask), [&](std::int64_t task) {
      const std::int64_t end = std::min(N, (task + 1) * kRowsPerTask);
      for (std::int64_t n = task * kRowsPerTask; n < end; ++n) forward_row<E>(op, n);
    });
  });
}

void CpuBackend::execute(const LayerNormBackward& op) {
  const std::int64_t N = op.x.size(0), C = op.x.size(1);
  const std::int64_t block_rows = std::max(kRowsPerTask, ceil_div(N, kMaxRowBlocks));
  const std::int64_t blocks = ceil_div(N, block_rows);
  float* sums = ThreadScratch::floats(blocks * 2 * C);
  with_compute_type(op.x.type(), [&]<class E>(std::type_identity<E>) {
    parallel_for(blocks, [&](std::int64_t block) {
      float* of_block = sums + block * 2 * C;
      std::fill_n(of_block, 2 * C, 0.0f);
      const std::int64_t end = std::min(N, (block + 1) * block_rows);
      for (std::int64_t n = block * block_rows; n < end; ++n) {
        backward_row<E>(op, n, {.d_gain = of_block, .d_bias = of_block + C});
      }
    });
  });
  parallel_for(ceil_div(C, kColumnsPerTask), [&](std::int64_t task) {
    const std::int64_t begin = task * kColumnsPerTask;
    add_block_sums(op, sums, blocks, {begin, std::min(C, begin + kColumnsPerTask)});
  });
}

}  // namespace lathe
