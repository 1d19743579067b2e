// The positions of a batch in the order of their tokens, equal tokens in the order of positions: a
// radix sort, least significant digit first, whose result depends on the tokens alone.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace lathe::cuda {

// Memory for sorting N positions, in elements of 4 bytes.
std::int64_t token_order_memory(std::int64_t N);

// The order lies in `memory` then. Tokens are in [0, vocab).
const std::int32_t* order_positions(const std::int32_t* tokens, std::int64_t N, std::int64_t vocab,
                                    std::int32_t* memory, cudaStream_t stream);

}  // namespace lathe::cuda
