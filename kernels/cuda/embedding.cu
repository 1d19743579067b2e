// Embedding: a row of the token table plus a row of the position table. The backward pass walks the
// positions in the order of their tokens, in pieces of 32, so that repeated tokens add up in one
// order, without atomics, and the work is cut evenly whatever the tokens are.
#include "cuda_backend.h"
#include "device.cuh"
#include "launch.h"
#include "token_order.h"

namespace lathe {
namespace {

using namespace cuda;

constexpr int kThreads = 256;
constexpr int kPiece = kWarp;     // positions of a warp, in the order of tokens
constexpr int kRowsInFlight = 4;  // of a piece

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

// A piece ends amid a token's positions more often than not: what it adds to a token that the piece
// before began is its opening, which goes to memory of its own.
template <class E>
struct TokenGradients {
  float* d_token_table;
  float* openings;             // (pieces, C)
  std::int32_t* first_tokens;  // (pieces): of each
  const E* d_out;
  const std::int32_t *tokens, *order;
  std::int64_t N, C, pieces;

  __device__ std::int32_t token(std::int64_t i) const { return tokens[order[i]]; }
};

// A warp: piece blockIdx.x, 32 packs of channels from 32 blockIdx.y on, a lane each.
template <class E, int W>
__global__ void __launch_bounds__(kWarp) add_pieces(TokenGradients<E> op) {
  using P = Pack<E, W>;
  const int lane = static_cast<int>(threadIdx.x);
  const std::int64_t piece = blockIdx.x, begin = piece * kPiece;
  const std::int64_t c = (std::int64_t{blockIdx.y} * kWarp + lane) * W;
  const int count = static_cast<int>(min(op.N - begin, std::int64_t{kPiece}));
  const std::int32_t position = op.order[begin + min(lane, count - 1)];
  const std::int32_t token = op.tokens[position];
  const std::int32_t first = __shfl_sync(kAllLanes, token, 0);
  bool opens = begin > 0 && op.token(begin - 1) == first;
  if (blockIdx.y == 0 && lane == 0) op.first_tokens[piece] = first;
  Pack<float, W> sum = {};
  for (int start = 0; start < count; start += kRowsInFlight) {
    P rows[kRowsInFlight];
#pragma unroll
    for (int r = 0; r < kRowsInFlight; ++r) {
      const std::int64_t n = __shfl_sync(kAllLanes, position, start + r);
      if (c < op.C) rows[r] = *reinterpret_cast<const P*>(op.d_out + n * op.C + c);
    }
#pragma unroll
    for (int r = 0; r < kRowsInFlight; ++r) {
      const int i = start + r;
      const std::int64_t mine = __shfl_sync(kAllLanes, token, i);
      const bool is_last = i + 1 >= count || __shfl_sync(kAllLanes, token, i + 1) != mine;
      if (i >= count || c >= op.C) continue;
      for (int k = 0; k < W; ++k) sum.values[k] += widen(rows[r].values[k]);
      if (!is_last) continue;
      auto* to = reinterpret_cast<Pack<float, W>*>(opens ? op.openings + piece * op.C + c
                                                         : op.d_token_table + mine * op.C + c);
      const Pack<float, W> before = opens ? Pack<float, W>{} : *to;
      for (int k = 0; k < W; ++k) sum.values[k] += before.values[k];
      *to = sum;
      sum = {};
      opens = false;
    }
  }
}

// Adds the openings that follow a piece to the token that it began and did not end: one after
// another, 32 channels a warp. Even a batch of one token takes but N / 32 additions.
template <class E>
__global__ void __launch_bounds__(kWarp) add_openings(TokenGradients<E> op) {
  const int lane = static_cast<int>(threadIdx.x);
  const std::int64_t piece = blockIdx.x, c = std::int64_t{blockIdx.y} * kWarp + lane;
  const std::int64_t begin = piece * kPiece, next = begin + kPiece;
  if (next >= op.N) return;
  const std::int64_t token = op.token(next - 1);
  if (begin > 0 && op.token(begin - 1) == token) return;  // an earlier piece began it
  float sum = 0;
  int count = kWarp;  // of the next 32 pieces, those that open with it
  for (std::int64_t first = piece + 1; count == kWarp; first += kWarp) {
    const bool opens = first + lane < op.pieces && op.first_tokens[first + lane] == token;
    const unsigned others = ~__ballot_sync(kAllLanes, opens);
    count = others == 0 ? kWarp : __ffs(static_cast<int>(others)) - 1;
    if (c >= op.C) continue;
#pragma unroll 4
    for (int i = 0; i < count; ++i) sum += op.openings[(first + i) * op.C + c];
  }
  if (c < op.C) op.d_token_table[token * op.C + c] += sum;
}

// A thread adds up a pack of the position table over the sequences.
template <class E, int W>
__global__ void __launch_bounds__(kThreads)
    position_gradients(float* d_position_table, const E* d_out, std::int64_t B, std::int64_t T,
                       std::int64_t C, std::int64_t count, bool accumulate) {
  const std::int64_t i = (std::int64_t{blockIdx.x} * kThreads + threadIdx.x) * W;
  if (i >= count) return;
  auto* to = reinterpret_cast<Pack<float, W>*>(d_position_table + i);
  Pack<float, W> sum = accumulate ? *to : Pack<float, W>{};
  if (i < T * C) {
#pragma unroll 4
    for (std::int64_t b = 0; b < B; ++b) {
      const auto pack = *reinterpret_cast<const Pack<E, W>*>(d_out + b * T * C + i);
      for (int k = 0; k < W; ++k) sum.values[k] += widen(pack.values[k]);
    }
  }
  *to = sum;
}

template <class E, int W>
void start_backward(const EmbeddingBackward& op, const TokenGradients<E>& tokens,
                    cudaStream_t stream) {
  const std::int64_t B = op.d_out.size(0), T = op.d_out.size(1), C = op.d_out.size(2);
  const dim3 pieces(grid_of(tokens.pieces), grid_of(ceil_div(C, kWarp * W)));
  add_pieces<E, W><<<pieces, kWarp, 0, stream>>>(tokens);
  const dim3 openings(grid_of(tokens.pieces), grid_of(ceil_div(C, kWarp)));
  add_openings<E><<<openings, kWarp, 0, stream>>>(tokens);
  const std::int64_t count = op.d_position_table.count();
  position_gradients<E, W><<<grid_of(ceil_div(count, kThreads * W)), kThreads, 0, stream>>>(
      op.d_position_table.as<float>(), op.d_out.as<E>(), B, T, C, count, op.accumulate);
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
  const std::int64_t N = op.tokens.count(), C = op.d_out.size(2), pieces = ceil_div(N, kPiece);
  float* openings = scratch(pieces * C + pieces + token_order_memory(N));
  auto* first_tokens = reinterpret_cast<std::int32_t*>(openings + pieces * C);
  const std::int32_t* order = order_positions(
      op.tokens.as<std::int32_t>(), N, op.d_token_table.size(0), first_tokens + pieces, stream());
  with_compute_type(op.d_out.type(), [&]<class E>(std::type_identity<E>) {
    const TokenGradients<E> tokens{.d_token_table = op.d_token_table.as<float>(),
                                   .openings = openings,
                                   .first_tokens = first_tokens,
                                   .d_out = op.d_out.as<E>(),
                                   .tokens = op.tokens.as<std::int32_t>(),
                                   .order = order,
                                   .N = N,
                                   .C = C,
                                   .pieces = pieces};
    is_wide(C, {op.d_out, op.d_token_table, op.d_position_table})
        ? start_backward<E, kWidest<E>>(op, tokens, stream())
        : start_backward<E, 1>(op, tokens, stream());
  });
  check_launch(EmbeddingBackward::kName);
}

}  // namespace lathe
