// Sums over a whole tensor in two launches: blocks over chunks whose borders depend on the count
// alone, then one block over their sums. In double, which costs no time beside the reads on GPUs
// made for training.
#include <algorithm>

#include "cuda_backend.h"
#include "device.cuh"
#include "launch.h"

namespace lathe {
namespace {

using namespace cuda;

constexpr int kThreads = 256;
constexpr int kWidth = 4;          // elements of a pack: 16 bytes
constexpr int kPacksInFlight = 4;  // of a thread
constexpr int kStride = kThreads * kWidth;
constexpr std::int64_t kMaxChunks = 1024;  // on a GPU at a time
constexpr std::int64_t kMinChunk = 4 * kStride;

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

struct SquareSum {
  double of_place[kWidth] = {};  // in a pack: additions that need not wait for each other

  __device__ void add(const Pack<float, kWidth>& pack) {
    for (int k = 0; k < kWidth; ++k) {
      of_place[k] += double{pack.values[k]} * double{pack.values[k]};
    }
  }
  __device__ double total() const {
    return (of_place[0] + of_place[1]) + (of_place[2] + of_place[3]);
  }
};

// `chunk` is a multiple of kWidth.
__global__ void __launch_bounds__(kThreads)
    chunk_square_sums(double* sums, Flat<const float> x, std::int64_t chunk) {
  const std::int64_t begin = blockIdx.x * chunk, end = min(x.count, begin + chunk);
  std::int64_t i = begin + threadIdx.x * kWidth;
  SquareSum sum;
  constexpr std::int64_t kReach = (kPacksInFlight - 1) * kStride + kWidth;
  for (; x.aligned && i + kReach <= end; i += kPacksInFlight * kStride) {
    Pack<float, kWidth> packs[kPacksInFlight];
    for (int p = 0; p < kPacksInFlight; ++p) packs[p] = x.whole<kWidth>(i + p * kStride);
    for (const auto& pack : packs) sum.add(pack);
  }
  for (; i < end; i += kStride) sum.add(x.load<kWidth>(i));
  const double total = block_sum_of_doubles(sum.total());
  if (threadIdx.x == 0) sums[blockIdx.x] = total;
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    sum_all(float* out, const T* x, std::int64_t count, bool accumulate) {
  double sum = 0;
#pragma unroll 8
  for (std::int64_t i = threadIdx.x; i < count; i += kThreads) sum += double{x[i]};
  sum = block_sum_of_doubles(sum);
  if (threadIdx.x == 0) *out = static_cast<float>(accumulate ? double{*out} + sum : sum);
}

}  // namespace

void CudaBackend::execute(const SumOfSquares& op) {
  const std::int64_t count = op.x.count();
  const std::int64_t chunk = std::max(kMinChunk, ceil_div(count, kMaxChunks * kWidth) * kWidth);
  const std::int64_t chunks = ceil_div(count, chunk);
  auto* sums = reinterpret_cast<double*>(scratch(2 * chunks));
  chunk_square_sums<<<grid_of(chunks), kThreads, 0, stream()>>>(
      sums, {.values = op.x.as<float>(), .count = count, .aligned = is_aligned({op.x})}, chunk);
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
