#include <cuda_runtime.h>

#include <cmath>
#include <cstring>
#include <iterator>
#include <limits>
#include <stdexcept>

#include "kernels.h"
#include "lathe/random.h"

namespace lathe::test {
namespace {

using Words = std::vector<std::uint32_t>;

constexpr int kLanes = 32, kElements = 128;
constexpr unsigned kAll = 0xffffffffu;

// Instructions on one or two floats, in the order in which elementwise() runs them.
constexpr const char* kElementwise[] = {"ex2.approx.ftz.f32", "lg2.approx.f32",   "rcp.approx.f32",
                                        "sqrt.approx.f32",    "rsqrt.approx.f32", "tanh.approx.f32",
                                        "div.approx.f32",     "cvt.rn.bf16x2.f32"};

__global__ void elementwise(std::uint32_t* out, const std::uint32_t* in) {
  const unsigned i = threadIdx.x;
  const float a = __uint_as_float(in[i]), b = __uint_as_float(in[(i + 1) % kElements]);
  float r[8];
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r[0]) : "f"(a));
  asm("lg2.approx.f32 %0, %1;" : "=f"(r[1]) : "f"(a));
  asm("rcp.approx.f32 %0, %1;" : "=f"(r[2]) : "f"(a));
  asm("sqrt.approx.f32 %0, %1;" : "=f"(r[3]) : "f"(a));
  asm("rsqrt.approx.f32 %0, %1;" : "=f"(r[4]) : "f"(a));
  asm("tanh.approx.f32 %0, %1;" : "=f"(r[5]) : "f"(a));
  asm("div.approx.f32 %0, %1, %2;" : "=f"(r[6]) : "f"(a), "f"(b));
  asm("{ .reg .b32 pair; cvt.rn.bf16x2.f32 pair, %1, %2; mov.b32 %0, pair; }"
      : "=f"(r[7])
      : "f"(a), "f"(b));
  for (int k = 0; k < 8; ++k) out[k * kElements + i] = __float_as_uint(r[k]);
}

// Sources are a lane's own registers, so that this shows the product alone: 4 of a, 2 of b, 4 of c.
__global__ void matrix_product(std::uint32_t* out, const std::uint32_t* in) {
  const unsigned lane = threadIdx.x;
  const std::uint32_t *a = in + 4 * lane, *b = in + 4 * kLanes + 2 * lane;
  float d[4] = {0, 0, 0, 0};
  for (int i = 0; i < 4; ++i) d[i] = __uint_as_float(in[6 * kLanes + 4 * lane + i]);
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  for (int i = 0; i < 4; ++i) out[4 * lane + i] = __float_as_uint(d[i]);
}

template <bool Transposed>
__global__ void load_matrices(std::uint32_t* out, const std::uint32_t* in) {
  __shared__ __align__(16) std::uint32_t rows[4 * kLanes];  // each lane names one row of 16 bytes
  const unsigned lane = threadIdx.x;
  for (int i = 0; i < 4; ++i) rows[4 * lane + i] = in[4 * lane + i];
  __syncwarp();
  const auto row = static_cast<std::uint32_t>(__cvta_generic_to_shared(rows + 4 * lane));
  std::uint32_t r[4];
  if constexpr (Transposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(row));
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(row));
  }
  for (int i = 0; i < 4; ++i) out[4 * lane + i] = r[i];
}

__global__ void shuffles(std::uint32_t* out, const std::uint32_t* in) {
  const unsigned lane = threadIdx.x;
  const std::uint32_t x = in[lane];
  out[4 * lane] = __shfl_xor_sync(kAll, x, 5);
  out[4 * lane + 1] = __shfl_up_sync(kAll, x, 3, 16);
  out[4 * lane + 2] = __shfl_down_sync(kAll, x, 3, 8);
  out[4 * lane + 3] = __shfl_sync(kAll, x, static_cast<int>(lane * 7), 16);
}

// 16 bytes, of which the source gives 0, 4, 8 or 16; the rest is zero.
__global__ void asynchronous_copies(std::uint32_t* out, const std::uint32_t* in) {
  __shared__ __align__(16) std::uint32_t copies[4 * kLanes];
  const unsigned lane = threadIdx.x;
  const auto to = static_cast<std::uint32_t>(__cvta_generic_to_shared(copies + 4 * lane));
  const unsigned given = lane % 4 == 0 ? 0 : 2u << lane % 4;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(in + 4 * lane),
               "r"(given));
  asm volatile("cp.async.commit_group;");
  asm volatile("cp.async.wait_group 0;" ::: "memory");
  for (int i = 0; i < 4; ++i) out[4 * lane + i] = copies[4 * lane + i];
}

void check(cudaError_t status) {
  if (status != cudaSuccess) throw std::runtime_error(cudaGetErrorString(status));
}

using Kernel = void (*)(std::uint32_t*, const std::uint32_t*);

Words run(Kernel kernel, int threads, const Words& in, std::size_t count = kElements) {
  std::uint32_t *device_in = nullptr, *device_out = nullptr;
  Words out(count);
  const std::size_t in_bytes = in.size() * sizeof(in[0]), out_bytes = out.size() * sizeof(out[0]);
  check(cudaMalloc(&device_in, in_bytes));
  check(cudaMalloc(&device_out, out_bytes));
  check(cudaMemcpy(device_in, in.data(), in_bytes, cudaMemcpyHostToDevice));
  kernel<<<1, static_cast<unsigned>(threads)>>>(device_out, device_in);
  check(cudaGetLastError());
  check(cudaMemcpy(out.data(), device_out, out_bytes, cudaMemcpyDeviceToHost));
  check(cudaFree(device_in));
  check(cudaFree(device_out));
  return out;
}

RandomKey key_of(std::uint32_t inputs) {
  return {.seed = 1, .stream = RandomStream::sampling, .substream = inputs};
}

std::uint32_t bits_of(double x) {
  const auto narrow = static_cast<float>(x);
  std::uint32_t word = 0;
  std::memcpy(&word, &narrow, sizeof(word));
  return word;
}

// Numbers of every size from 2^-12 to 2^12 and of both signs, and what is no ordinary number.
Words floats() {
  using Limits = std::numeric_limits<float>;
  Words words;
  for (const float x : {0.0f, -0.0f, 1.0f, Limits::infinity(), -Limits::infinity(),
                        Limits::quiet_NaN(), Limits::max(), Limits::min()}) {
    words.push_back(bits_of(x));
  }
  for (std::uint64_t i = words.size(); i < kElements; ++i) {
    const double size = std::exp2(24 * uniform(key_of(0), 2 * i) - 12);
    words.push_back(bits_of(uniform(key_of(0), 2 * i + 1) < 0.25 ? -size : size));
  }
  return words;
}

Words any_bits() {
  Words words;
  for (std::uint64_t i = 0; i < kElements; ++i) words.push_back(philox(key_of(1), i)[0]);
  return words;
}

// Registers of a product: pairs of bf16 (a float's upper half) from [-1, 1) in a and b, fp32 in c.
Words factors() {
  const auto number = [](std::uint64_t i) { return 2 * uniform(key_of(2), i) - 1; };
  Words words;
  for (std::uint64_t i = 0; i < 10 * kLanes; ++i) {
    const std::uint32_t low = bits_of(number(2 * i)), high = bits_of(number(2 * i + 1));
    words.push_back(i < 6 * kLanes ? (high & 0xffff0000u) | low >> 16 : low);
  }
  return words;
}

}  // namespace

InstructionResults run_instruction_kernels() {
  InstructionResults results;
  const Words all = run(elementwise, kElements, floats(), std::size(kElementwise) * kElements);
  for (auto from = all.begin(); const char* name : kElementwise) {
    results[name] = Words(from, from + kElements);
    from += kElements;
  }
  results["mma.m16n8k16.bf16"] = run(matrix_product, kLanes, factors());
  results["ldmatrix.x4"] = run(load_matrices<false>, kLanes, any_bits());
  results["ldmatrix.x4.trans"] = run(load_matrices<true>, kLanes, any_bits());
  results["shfl"] = run(shuffles, kLanes, any_bits());
  results["cp.async"] = run(asynchronous_copies, kLanes, any_bits());
  return results;
}

std::string gpu_name() {
  cudaDeviceProp properties = {};
  check(cudaGetDeviceProperties(&properties, 0));
  return properties.name;
}

}  // namespace lathe::test
