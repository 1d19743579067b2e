// LayerNorm (Ba et al. 2016). A row is normalised in one task while it is in the cache. Backward
// walks the columns first, in chunks, each summing its d_gain and d_bias over all rows in order,
// and then the rows for d_x, which may overwrite any operand of its shape by then.
#include <algorithm>
#include <cmath>

#include "compute_type.h"
#include "cpu_backend.h"

namespace lathe {
namespace {

constexpr std::int64_t kRowsPerTask = 16;
constexpr std::int64_t kColumnsPerTask = 32;

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

// With g = d_out * gain and y the normalised row:
// d_x = d_residual + rstd * (g - mean(g) - y * mean(g * y)).
template <class E>
void backward_row(const LayerNormBackward& op, std::int64_t n) {
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
  const auto d_x_at = [&](std::int64_t c) {
    const float g = to_float(d_out[c]) * to_float(gain[c]);
    const float y = (to_float(x[c]) - mean) * rstd;
    return rstd * (g - g_mean - y * gy_mean);
  };
  if (op.d_residual.empty()) {
#pragma omp simd
    for (std::int64_t c = 0; c < C; ++c) d_x[c] = from_float<E>(d_x_at(c));
    return;
  }
  const E* d_residual = op.d_residual.as<E>() + n * C;
#pragma omp simd
  for (std::int64_t c = 0; c < C; ++c) {
    d_x[c] = from_float<E>(to_float(d_residual[c]) + d_x_at(c));
  }
}

template <class E>
void parameter_gradients(const LayerNormBackward& op, std::int64_t begin, std::int64_t columns) {
  const std::int64_t N = op.x.size(0), C = op.x.size(1);
  float gain_sum[kColumnsPerTask] = {}, bias_sum[kColumnsPerTask] = {};
  for (std::int64_t n = 0; n < N; ++n) {
    const float mean = op.mean.as<float>()[n], rstd = op.rstd.as<float>()[n];
    const E* x = op.x.as<E>() + n * C + begin;
    const E* d_out = op.d_out.as<E>() + n * C + begin;
#pragma omp simd
    for (std::int64_t c = 0; c < columns; ++c) {
      gain_sum[c] += to_float(d_out[c]) * ((to_float(x[c]) - mean) * rstd);
      bias_sum[c] += to_float(d_out[c]);
    }
  }
  float* d_gain = op.d_gain.as<float>() + begin;
  float* d_bias = op.d_bias.as<float>() + begin;
  for (std::int64_t c = 0; c < columns; ++c) {
    d_gain[c] = (op.accumulate ? d_gain[c] : 0.0f) + gain_sum[c];
    d_bias[c] = (op.accumulate ? d_bias[c] : 0.0f) + bias_sum[c];
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
  with_compute_type(op.x.type(), [&]<class E>(std::type_identity<E>) {
    parallel_for(ceil_div(C, kColumnsPerTask), [&](std::int64_t task) {
      const std::int64_t begin = task * kColumnsPerTask;
      parameter_gradients<E>(op, begin, std::min(kColumnsPerTask, C - begin));
    });
    parallel_for(ceil_div(N, kRowsPerTask), [&](std::int64_t task) {
      const std::int64_t end = std::min(N, (task + 1) * kRowsPerTask);
      for (std::int64_t n = task * kRowsPerTask; n < end; ++n) backward_row<E>(op, n);
    });
  });
}

}  // namespace lathe
