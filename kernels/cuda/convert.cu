// Element-wise moves: between fp32 and bf16, and a constant.
#include "cuda_backend.h"
#include "device.cuh"
#include "launch.h"

namespace lathe {
namespace {

using namespace cuda;

constexpr int kThreads = 256;

template <class To, class From, int W>
__global__ void __launch_bounds__(kThreads) convert(To* out, const From* x, std::int64_t packs) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= packs) return;
  const auto from = reinterpret_cast<const Pack<From, W>*>(x)[i];
  Pack<To, W> to;
  for (int k = 0; k < W; ++k) to.values[k] = narrow<To>(widen(from.values[k]));
  reinterpret_cast<Pack<To, W>*>(out)[i] = to;
}

template <class E>
__global__ void __launch_bounds__(kThreads) fill(E* out, float value, std::int64_t count) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i < count) out[i] = narrow<E>(value);
}

}  // namespace

void CudaBackend::execute(const Convert& op) {
  const std::int64_t count = op.out.count();
  with_compute_type(op.out.type(), [&]<class To>(std::type_identity<To>) {
    with_compute_type(op.x.type(), [&]<class From>(std::type_identity<From>) {
      const auto start = [&]<int W>(std::integral_constant<int, W>) {
        convert<To, From, W><<<grid_of(ceil_div(count / W, kThreads)), kThreads, 0, stream()>>>(
            op.out.as<To>(), op.x.as<From>(), count / W);
      };
      is_wide(count, {op.out, op.x}) ? start(std::integral_constant<int, 4>{})
                                     : start(std::integral_constant<int, 1>{});
    });
  });
  check_launch(Convert::kName);
}

bool cuda::has_image() {
  cudaFuncAttributes attributes = {};
  const bool found = cudaFuncGetAttributes(&attributes, fill<float>) == cudaSuccess;
  cudaGetLastError();  // a missing image is no lasting error
  return found;
}

void CudaBackend::execute(const Fill& op) {
  const std::int64_t count = op.out.count();
  with_compute_type(op.out.type(), [&]<class E>(std::type_identity<E>) {
    fill<E><<<grid_of(ceil_div(count, kThreads)), kThreads, 0, stream()>>>(op.out.as<E>(), op.value,
                                                                           count);
  });
  check_launch(Fill::kName);
}

}  // namespace lathe
