// GELU where it is not part of a product's epilogue.
#include "device.cuh"
#include "gelu.cuh"
#include "gemm.h"
#include "launch.h"

namespace lathe::cuda {
namespace {

constexpr int kThreads = 256;

struct Forward {
  __device__ float operator()(float /*out*/, float pre_gelu) const { return gelu(pre_gelu); }
};
struct Derivative {
  __device__ float operator()(float d, float pre_gelu) const {
    return d * gelu_derivative(pre_gelu);
  }
};

template <class E, int W, class Function>
__global__ void __launch_bounds__(kThreads)
    apply(E* values, const E* pre_gelu, std::int64_t packs, Function function) {
  using P = Pack<E, W>;
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= packs) return;
  P pack = reinterpret_cast<const P*>(values)[i];
  const P before = reinterpret_cast<const P*>(pre_gelu)[i];
  for (int k = 0; k < W; ++k) {
    pack.values[k] = narrow<E>(function(widen(pack.values[k]), widen(before.values[k])));
  }
  reinterpret_cast<P*>(values)[i] = pack;
}

// Products that come here have rows of whole packs.
template <class Function>
void start(const Tensor& values, const Tensor& pre_gelu, cudaStream_t stream,
           const Function& function) {
  with_compute_type(values.type(), [&]<class E>(std::type_identity<E>) {
    const std::int64_t packs = values.count() / kWidest<E>;
    apply<E, kWidest<E>><<<grid_of(ceil_div(packs, kThreads)), kThreads, 0, stream>>>(
        values.as<E>(), pre_gelu.as<E>(), packs, function);
  });
  check_launch("gelu");
}

}  // namespace

void apply_gelu(const Tensor& out, const Tensor& pre_gelu, cudaStream_t stream) {
  start(out, pre_gelu, stream, Forward{});
}

void apply_gelu_derivative(const Tensor& d, const Tensor& pre_gelu, cudaStream_t stream) {
  start(d, pre_gelu, stream, Derivative{});
}

}  // namespace lathe::cuda
