// Element-wise moves: between fp32 and bf16, and a constant.
#include <algorithm>

#include "compute_type.h"
#include "cpu_backend.h"

namespace lathe {
namespace {

constexpr std::int64_t kElementsPerTask = 1 << 15;

}  // namespace

void CpuBackend::execute(const Convert& op) {
  const std::int64_t count = op.out.count();
  with_compute_type(op.out.type(), [&]<class To>(std::type_identity<To>) {
    with_compute_type(op.x.type(), [&]<class From>(std::type_identity<From>) {
      To* out = op.out.as<To>();
      const From* x = op.x.as<From>();
      parallel_for(ceil_div(count, kElementsPerTask), [&](std::int64_t task) {
        const std::int64_t begin = task * kElementsPerTask;
        const std::int64_t end = std::min(count, begin + kElementsPerTask);
#pragma omp simd
        for (std::int64_t i = begin; i < end; ++i) out[i] = from_float<To>(to_float(x[i]));
      });
    });
  });
}

void CpuBackend::execute(const Fill& op) {
  const std::int64_t count = op.out.count();
  with_compute_type(op.out.type(), [&]<class E>(std::type_identity<E>) {
    const E value = from_float<E>(op.value);
    E* out = op.out.as<E>();
    parallel_for(ceil_div(count, kElementsPerTask), [&](std::int64_t task) {
      const std::int64_t begin = task * kElementsPerTask;
      std::fill(out + begin, out + std::min(count, begin + kElementsPerTask), value);
    });
  });
}

}  // namespace lathe
