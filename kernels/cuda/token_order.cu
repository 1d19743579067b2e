#include "token_order.h"

#include "device.cuh"
#include "launch.h"

namespace lathe::cuda {
namespace {

constexpr int kDigitBits = 8;
constexpr int kDigits = 1 << kDigitBits;
constexpr std::int64_t kChunk = 1024;  // positions of a warp
constexpr int kScanThreads = 1024;

// A pass sorts by the digit at `shift` and leaves equal digits in the order they come in.
struct Pass {
  const std::int32_t* tokens;
  const std::int32_t* from;  // positions in the order of the digits below; null: as they are
  std::int32_t* to;
  std::int32_t* counts;  // (kDigits, chunks); after the scan, where each one's positions begin
  std::int64_t N;
  int shift;

  __device__ std::int32_t position(std::int64_t i) const {
    return from == nullptr ? static_cast<std::int32_t>(i) : from[i];
  }
  __device__ int digit(std::int32_t position) const {
    return (tokens[position] >> shift) % kDigits;
  }
};

// Calls function(position, digit, lanes) for a warp's chunk, 32 positions side by side: `lanes` are
// those with the same digit. The warp may use what others of it wrote in the step before.
template <class Function>
__device__ void walk_chunk(const Pass& pass, const Function& function) {
  const std::int64_t begin = blockIdx.x * kChunk, end = min(pass.N, begin + kChunk);
  for (std::int64_t i = begin + threadIdx.x; i - threadIdx.x < end; i += kWarp) {
    const std::int32_t position = i < end ? pass.position(i) : 0;
    const int digit = i < end ? pass.digit(position) : -1;
    const unsigned lanes = __match_any_sync(kAllLanes, digit);
    if (i < end) function(position, digit, lanes);
    __syncwarp();
  }
}

__device__ unsigned lanes_below() {
  return (1u << threadIdx.x) - 1;
}

__global__ void __launch_bounds__(kWarp) count_digits(Pass pass) {
  __shared__ std::int32_t counts[kDigits];
  for (int digit = threadIdx.x; digit < kDigits; digit += kWarp) counts[digit] = 0;
  __syncwarp();
  walk_chunk(pass, [&](std::int32_t, int digit, unsigned lanes) {
    if ((lanes & lanes_below()) == 0) counts[digit] += __popc(lanes);
  });
  for (int digit = threadIdx.x; digit < kDigits; digit += kWarp) {
    pass.counts[digit * std::int64_t{gridDim.x} + blockIdx.x] = counts[digit];
  }
}

// Each of `count` values becomes the sum of those before it. One block.
__global__ void __launch_bounds__(kScanThreads) scan(std::int32_t* values, std::int64_t count) {
  __shared__ std::int32_t sums[kScanThreads];
  const int thread = static_cast<int>(threadIdx.x);
  const std::int64_t each = (count + kScanThreads - 1) / kScanThreads;
  const std::int64_t begin = thread * each, end = min(count, begin + each);
  std::int32_t sum = 0;
  for (std::int64_t i = begin; i < end; ++i) sum += values[i];
  sums[thread] = sum;
  __syncthreads();
  for (int reach = 1; reach < kScanThreads; reach *= 2) {
    const std::int32_t before = thread >= reach ? sums[thread - reach] : 0;
    __syncthreads();
    sums[thread] += before;
    __syncthreads();
  }
  sum = thread == 0 ? 0 : sums[thread - 1];
  for (std::int64_t i = begin; i < end; ++i) {
    const std::int32_t value = values[i];
    values[i] = sum;
    sum += value;
  }
}

__global__ void __launch_bounds__(kWarp) move(Pass pass) {
  __shared__ std::int32_t places[kDigits];  // of the next position with each digit
  for (int digit = threadIdx.x; digit < kDigits; digit += kWarp) {
    places[digit] = pass.counts[digit * std::int64_t{gridDim.x} + blockIdx.x];
  }
  __syncwarp();
  walk_chunk(pass, [&](std::int32_t position, int digit, unsigned lanes) {
    const std::int32_t place = places[digit];
    __syncwarp(lanes);  // all have read it
    pass.to[place + __popc(lanes & lanes_below())] = position;
    if ((lanes & lanes_below()) == 0) places[digit] = place + __popc(lanes);
  });
}

}  // namespace

std::int64_t token_order_memory(std::int64_t N) {
  return 2 * N + kDigits * ceil_div(N, kChunk);
}

const std::int32_t* order_positions(const std::int32_t* tokens, std::int64_t N, std::int64_t vocab,
                                    std::int32_t* memory, cudaStream_t stream) {
  const std::int64_t chunks = ceil_div(N, kChunk);
  Pass pass{.tokens = tokens,
            .from = nullptr,
            .to = memory,
            .counts = memory + 2 * N,
            .N = N,
            .shift = 0};
  do {
    count_digits<<<grid_of(chunks), kWarp, 0, stream>>>(pass);
    scan<<<1, kScanThreads, 0, stream>>>(pass.counts, kDigits * chunks);
    move<<<grid_of(chunks), kWarp, 0, stream>>>(pass);
    pass.from = pass.to;
    pass.to = pass.to == memory ? memory + N : memory;
    pass.shift += kDigitBits;
  } while (vocab > std::int64_t{1} << pass.shift);
  return pass.from;
}

}  // namespace lathe::cuda
