// Embedding: a row of the token table plus a row of the position table. The backward pass gives
// each task a range of channels or positions of its own and walks the tokens in order, so repeated
// tokens add up in one order, without atomics.
#include <algorithm>

#include "compute_type.h"
#include "cpu_backend.h"

namespace lathe {
namespace {

constexpr std::int64_t kPositionsPerTask = 16;
constexpr std::int64_t kChannelsPerTask = 32;

template <class E>
void forward_row(const EmbeddingForward& op, std::int64_t row) {
  const std::int64_t T = op.out.size(1), C = op.out.size(2);
  const E* token = op.token_table.as<E>() + op.tokens.as<std::int32_t>()[row] * C;
  const E* position = op.position_table.as<E>() + row % T * C;
  E* out = op.out.as<E>() + row * C;
#pragma omp simd
  for (std::int64_t c = 0; c < C; ++c) {
    out[c] = from_float<E>(to_float(token[c]) + to_float(position[c]));
  }
}

// d_token_table[:, begin:end] += rows of d_out[:, begin:end], in token order.
template <class E>
void add_token_gradients(const EmbeddingBackward& op, std::int64_t begin, std::int64_t end) {
  const std::int64_t C = op.d_out.size(2), N = op.tokens.count();
  const std::int32_t* tokens = op.tokens.as<std::int32_t>();
  for (std::int64_t n = 0; n < N; ++n) {
    float* to = op.d_token_table.as<float>() + tokens[n] * C;
    const E* from = op.d_out.as<E>() + n * C;
#pragma omp simd
    for (std::int64_t c = begin; c < end; ++c) to[c] += to_float(from[c]);
  }
}

template <class E>
void position_gradient(const EmbeddingBackward& op, std::int64_t t) {
  const std::int64_t B = op.d_out.size(0), T = op.d_out.size(1), C = op.d_out.size(2);
  float* to = op.d_position_table.as<float>() + t * C;
  if (!op.accumulate) std::fill_n(to, C, 0.0f);
  if (t >= T) return;
  for (std::int64_t b = 0; b < B; ++b) {
    const E* from = op.d_out.as<E>() + (b * T + t) * C;
#pragma omp simd
    for (std::int64_t c = 0; c < C; ++c) to[c] += to_float(from[c]);
  }
}

}  // namespace

void CpuBackend::execute(const EmbeddingForward& op) {
  const std::int64_t N = op.tokens.count();
  with_compute_type(op.out.type(), [&]<class E>(std::type_identity<E>) {
    parallel_for(ceil_div(N, kPositionsPerTask), [&](std::int64_t task) {
      const std::int64_t end = std::min(N, (task + 1) * kPositionsPerTask);
      for (std::int64_t n = task * kPositionsPerTask; n < end; ++n) forward_row<E>(op, n);
    });
  });
}

void CpuBackend::execute(const EmbeddingBackward& op) {
  const std::int64_t C = op.d_out.size(2), context = op.d_position_table.size(0);
  with_compute_type(op.d_out.type(), [&]<class E>(std::type_identity<E>) {
    parallel_for(ceil_div(C, kChannelsPerTask), [&](std::int64_t task) {
      const std::int64_t begin = task * kChannelsPerTask;
      add_token_gradients<E>(op, begin, std::min(C, begin + kChannelsPerTask));
    });
    parallel_for(ceil_div(context, kPositionsPerTask), [&](std::int64_t task) {
      const std::int64_t end = std::min(context, (task + 1) * kPositionsPerTask);
      for (std::int64_t t = task * kPositionsPerTask; t < end; ++t) position_gradient<E>(op, t);
    });
  });
}

}  // namespace lathe
