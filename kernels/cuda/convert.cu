// Element-wise moves: between fp32 and bf16, and a constant.
#include "cuda_backend.h"
#include "device.cuh"
#include "launch.h"

namespace lathe {
namespace {

using namespace cuda;

constexpr int kThreads = 256;
constexpr int kWidth = 8;  // elements of a thread: 16 bytes of bf16, 32 of fp32

__device__ std::int64_t first_element() {
  return (std::int64_t{blockIdx.x} * kThreads + threadIdx.x) * kWidth;
}

template <class To, class From>
__global__ void __launch_bounds__(kThreads) convert(Flat<To> out, Flat<const From> x) {
  const std::int64_t i = first_element();
  const Pack<From, kWidth> from = x.template load<kWidth>(i);
  Pack<To, kWidth> to;
  for (int k = 0; k < kWidth; ++k) to.values[k] = narrow<To>(widen(from.values[k]));
  out.store(i, to);
}

template <class E>
__global__ void __launch_bounds__(kThreads) fill(Flat<E> out, float value) {
  Pack<E, kWidth> pack;
  for (E& element : pack.values) element = narrow<E>(value);
  out.store(first_element(), pack);
}

template <class E>
Flat<E> flat(const Tensor& tensor) {
  return {.values = tensor.as<std::remove_const_t<E>>(),
          .count = tensor.count(),
          .aligned = is_aligned({tensor})};
}

unsigned blocks_of(const Tensor& out) {
  return grid_of(ceil_div(out.count(), kThreads * kWidth));
}

}  // namespace

void CudaBackend::execute(const Convert& op) {
  with_compute_type(op.out.type(), [&]<class To>(std::type_identity<To>) {
    with_compute_type(op.x.type(), [&]<class From>(std::type_identity<From>) {
      convert<To, From>
          <<<blocks_of(op.out), kThreads, 0, stream()>>>(flat<To>(op.out), flat<const From>(op.x));
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
  with_compute_type(op.out.type(), [&]<class E>(std::type_identity<E>) {
    fill<E><<<blocks_of(op.out), kThreads, 0, stream()>>>(flat<E>(op.out), op.value);
  });
  check_launch(Fill::kName);
}

}  // namespace lathe
