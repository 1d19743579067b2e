// Sums over a whole tensor in two launches: blocks over chunks whose borders depend on the count
// alone, then one block over their sums, in double.
#include <algorithm>

#include "cuda_backend.h"
#include "device.cuh"
#include "launch.h"

namespace lathe {
namespace {

using namespace cuda;

constexpr int kThreads = 256;
constexpr std::int64_t kMaxChunks = 1024;
constexpr std::int64_t kMinChunk = 4096;

// The block's sum in a fixed order; in thread 0 alone.
__device__ double block_sum_of_doubles(double mine) {
  __shared__ double values[kThreads];
  values[threadIdx.x] = mine;
  __syncthreads();
  for (int half = kThreads / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) values[threadIdx.x] += values[threadIdx.x + half];
    __syncthreads();
  }
  return values[0];
}

__global__ void __launch_bounds__(kThreads)
    chunk_square_sums(double* sums, const float* x, std::int64_t count, std::int64_t chunk) {
  const std::int64_t begin = blockIdx.x * chunk, end = min(count, begin + chunk);
  double sum = 0;
  for (std::int64_t i = begin + threadIdx.x; i < end; i += kThreads) {
    sum += double{x[i]} * double{x[i]};
  }
  sum = block_sum_of_doubles(sum);
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    sum_all(float* out, const T* x, std::int64_t count, bool accumulate) {
  double sum = 0;
  for (std::int64_t i = threadIdx.x; i < count; i += kThreads) sum += double{x[i]};
  sum = block_sum_of_doubles(sum);
  if (threadIdx.x == 0) *out = static_cast<float>(accumulate ? double{*out} + sum : sum);
}

}  // namespace

void CudaBackend::execute(const SumOfSquares& op) {
  const std::int64_t count = op.x.count();
  const std::int64_t chunk = std::max(kMinChunk, ceil_div(count, kMaxChunks));
  const std::int64_t chunks = ceil_div(count, chunk);
  auto* sums = reinterpret_cast<double*>(scratch(2 * chunks));
  chunk_square_sums<<<grid_of(chunks), kThreads, 0, stream()>>>(sums, op.x.as<float>(), count,
                                                                chunk);
  sum_all<<<1, kThreads, 0, stream()>>>(op.out.as<float>(), sums, chunks, /*accumulate=*/false);
  check_launch(SumOfSquares::kName);
}

// Of a few losses: one block.
void CudaBackend::execute(const Sum& op) {
  sum_all<<<1, kThreads, 0, stream()>>>(op.out.as<float>(), op.x.as<float>(), op.x.count(),
                                        op.accumulate);
  check_launch(Sum::kName);
}

}  // namespace lathe
