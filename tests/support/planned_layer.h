// A layer whose matrix products are planned, for tests of the plans.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "lathe/cuda.h"
#include "support/device_tensors.h"
#include "support/reference.h"

namespace lathe::test {

// A layer with GELU, forward and backward: one product of each kind, as work that repeats.
struct PlannedLayer {
  static constexpr std::int64_t N = 24, I = 1024, O = 32;

  explicit PlannedLayer(const CudaOptions& options = {})
      : backend(make_cuda_backend(options)), recorder(backend->make_recorder()) {}

  struct Results {
    std::vector<float> out, pre_gelu, d_x, d_weight;
    bool operator==(const Results&) const = default;
  };

  Results run(DType type = DType::fp32) {
    const auto x = to_device(*backend, type, {N, I}, normal_floats(N * I, 1));
    const auto weight = to_device(*backend, type, {O, I}, normal_floats(O * I, 2, 0.03f));
    const auto bias = to_device(*backend, type, {O}, normal_floats(O, 3));
    const auto d_out = to_device(*backend, type, {N, O}, normal_floats(N * O, 4));
    const auto out = zeros(*backend, type, {N, O}), pre_gelu = zeros(*backend, type, {N, O});
    const auto d_x = zeros(*backend, type, {N, I});
    const auto d_weight = zeros(*backend, DType::fp32, {O, I});
    recorder->run("layer", [&] {
      backend->run(LinearForward{.out = out,
                                 .pre_gelu = pre_gelu,
                                 .x = x,
                                 .weight = weight,
                                 .bias = bias,
                                 .residual = {}});
      for (const bool accumulate : {false, true}) {
        backend->run(LinearBackward{.d_x = d_x,
                                    .d_weight = d_weight,
                                    .d_bias = {},
                                    .d_out = d_out,
                                    .x = x,
                                    .weight = weight,
                                    .pre_gelu = x,
                                    .accumulate = accumulate});
      }
    });
    return {.out = to_floats(*backend, out),
            .pre_gelu = to_floats(*backend, pre_gelu),
            .d_x = to_floats(*backend, d_x),
            .d_weight = to_floats(*backend, d_weight)};
  }

  std::unique_ptr<Backend> backend;
  std::unique_ptr<Recorder> recorder;
};

inline PlannedLayer restored(const std::string& plans) {
  PlannedLayer layer;
  layer.backend->restore_plans(plans);
  return layer;
}

}  // namespace lathe::test
