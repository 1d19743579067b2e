// Attention on tensor cores: the kernels that attention.cu hands bf16 to when head size and
// addresses suit them.
#pragma once

#include <cuda_runtime_api.h>

#include <type_traits>

#include "lathe/ops.h"
#include "launch.h"

namespace lathe::cuda {

// Calls function(std::integral_constant<int, D>{}) for a head size that tensor cores serve; returns
// false for others.
template <class Function>
bool with_mma_head_size(std::int64_t D, const Function& function) {
  switch (D) {
    case 32:
      function(std::integral_constant<int, 32>{});
      return true;
    case 64:
      function(std::integral_constant<int, 64>{});
      return true;
    case 128:
      function(std::integral_constant<int, 128>{});
      return true;
    default:
      return false;
  }
}

template <class Op>
bool suits_mma(const Op& op, std::initializer_list<Tensor> operands) {
  const std::int64_t C = op.out.size(2), H = op.log_sum_exp.size(1);
  return op.out.type() == DType::bf16 && is_wide(C, operands) &&
         with_mma_head_size(C / H, [](auto) {});
}
inline bool suits_mma(const AttentionForward& op) {
  return suits_mma(op, {op.out, op.qkv});
}
inline bool suits_mma(const AttentionBackward& op) {
  return suits_mma(op, {op.d_qkv, op.d_out, op.qkv, op.out});
}

// For operations that suit. `dots` is memory for (B, H, T).
void mma_attention(const AttentionForward& op, cudaStream_t stream);
void mma_attention(const AttentionBackward& op, float* dots, cudaStream_t stream);

}  // namespace lathe::cuda
