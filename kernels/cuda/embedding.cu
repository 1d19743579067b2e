// Embedding: a row of the token table plus a row of the position table. The backward pass gives
// each block the tokens of one residue class and some channels, and walks the positions in order,
// so repeated tokens add up in one order, without atomics.
#include "cuda_backend.h"
#include "device.cuh"
#include "launch.h"

namespace lathe {
namespace {

using namespace cuda;

constexpr int kThreads = 256;
constexpr int kClasses = 256;  // of tokens, modulo: blocks that share the backward pass of a slice

template <class E, int W>
__global__ void __launch_bounds__(kThreads)
    embedding_forward(E* out, const std::int32_t* tokens, const E* token_table,
                      const E* position_table, std::int64_t N, std::int64_t T, std::int64_t C) {
  const std::int64_t packs = C / W;  // of a row
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= N * packs) return;
  const std::int64_t n = i / packs, c = i % packs * W;
  using P = Pack<E, W>;
  const P token = *reinterpret_cast<const P*>(token_table + tokens[n] * C + c);
  const P position = *reinterpret_cast<const P*>(position_table + n % T * C + c);
  P sum;
  for (int k = 0; k < W; ++k) {
    sum.values[k] = narrow<E>(widen(token.values[k]) + widen(position.values[k]));
  }
  *reinterpret_cast<P*>(out + n * C + c) = sum;
}

// One warp: channels [32 blockIdx.x, +32), a lane each, tokens with token % kClasses == blockIdx.y.
template <class E>
__global__ void __launch_bounds__(kWarp)
    add_token_gradients(float* d_token_table, const E* d_out, const std::int32_t* tokens,
                        std::int64_t N, std::int64_t C) {
  const int lane = static_cast<int>(threadIdx.x);
  const std::int64_t c = std::int64_t{blockIdx.x} * kWarp + lane;
  for (std::int64_t first = 0; first < N; first += kWarp) {
    const std::int32_t token = first + lane < N ? tokens[first + lane] : -1;
    const bool is_ours = token >= 0 && static_cast<unsigned>(token) % kClasses == blockIdx.y;
    unsigned ours = __ballot_sync(kAllLanes, is_ours);
    while (ours != 0) {
      const int source = __ffs(static_cast<int>(ours)) - 1;
      ours &= ours - 1;
      const std::int64_t row = __shfl_sync(kAllLanes, token, source);
      if (c < C) d_token_table[row * C + c] += widen(d_out[(first + source) * C + c]);
    }
  }
}

// A thread adds up one element of the position table over the sequences.
template <class E>
__global__ void __launch_bounds__(kThreads)
    position_gradients(float* d_position_table, const E* d_out, std::int64_t B, std::int64_t T,
                       std::int64_t C, std::int64_t count, bool accumulate) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= count) return;
  float sum = accumulate ? d_position_table[i] : 0;
  if (i < T * C) {
    for (std::int64_t b = 0; b < B; ++b) sum += widen(d_out[b * T * C + i]);
  }
  d_position_table[i] = sum;
}

}  // namespace

void CudaBackend::execute(const EmbeddingForward& op) {
  const std::int64_t N = op.tokens.count(), T = op.out.size(1), C = op.out.size(2);
  with_compute_type(op.out.type(), [&]<class E>(std::type_identity<E>) {
    const auto start = [&]<int W>(std::integral_constant<int, W>) {
      embedding_forward<E, W><<<grid_of(ceil_div(N * (C / W), kThreads)), kThreads, 0, stream()>>>(
          op.out.as<E>(), op.tokens.as<std::int32_t>(), op.token_table.as<E>(),
          op.position_table.as<E>(), N, T, C);
    };
    is_wide(C, {op.out, op.token_table, op.position_table})
        ? start(std::integral_constant<int, kWidest<E>>{})
        : start(std::integral_constant<int, 1>{});
  });
  check_launch(EmbeddingForward::kName);
}

void CudaBackend::execute(const EmbeddingBackward& op) {
  const std::int64_t B = op.d_out.size(0), T = op.d_out.size(1), C = op.d_out.size(2);
  const dim3 grid(grid_of(ceil_div(C, kWarp)), kClasses);
  with_compute_type(op.d_out.type(), [&]<class E>(std::type_identity<E>) {
    add_token_gradients<E><<<grid, kWarp, 0, stream()>>>(
        op.d_token_table.as<float>(), op.d_out.as<E>(), op.tokens.as<std::int32_t>(), B * T, C);
    const std::int64_t count = op.d_position_table.count();
    position_gradients<E><<<grid_of(ceil_div(count, kThreads)), kThreads, 0, stream()>>>(
        op.d_position_table.as<float>(), op.d_out.as<E>(), B, T, C, count, op.accumulate);
  });
  check_launch(EmbeddingBackward::kName);
}

}  // namespace lathe
