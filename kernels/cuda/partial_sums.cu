#include "partial_sums.h"

#include "device.cuh"
#include "launch.h"

namespace lathe::cuda {
namespace {

constexpr int kWarps = 8;

// Columns [32 blockIdx.x, +32) of out blockIdx.y, a lane each: a warp adds every kWarps-th row.
__global__ void __launch_bounds__(kWarps* kWarp) add_rows(PartialSums op) {
  __shared__ float of_warps[kWarps][kWarp];
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = threadIdx.x / kWarp;
  const std::int64_t c = std::int64_t{blockIdx.x} * kWarp + lane, stride = gridDim.y * op.C;
  const float* values = op.values + blockIdx.y * op.C + c;
  float sum = 0;
  if (c < op.C) {
#pragma unroll 8
    for (std::int64_t row = warp; row < op.blocks; row += kWarps) sum += values[row * stride];
  }
  of_warps[warp][lane] = sum;
  __syncthreads();
  if (warp != 0 || c >= op.C) return;
  float* out = blockIdx.y == 0 ? op.outs[0] : op.outs[1];
  float total = op.accumulate ? out[c] : 0;
  for (int i = 0; i < kWarps; ++i) total += of_warps[i][lane];
  out[c] = total;
}

}  // namespace

void add_partial_sums(const PartialSums& sums, cudaStream_t stream) {
  const dim3 grid(grid_of(ceil_div(sums.C, kWarp)), sums.outs[1] == nullptr ? 1 : 2);
  add_rows<<<grid, kWarps * kWarp, 0, stream>>>(sums);
}

}  // namespace lathe::cuda
