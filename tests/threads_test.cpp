// The bits of every result are the same for every number of threads.
#include <gtest/gtest.h>
#include <omp.h>

#include <functional>

#include "lathe/backend.h"
#include "support/compare.h"
#include "support/device_tensors.h"

namespace lathe::test {
namespace {

using Bytes = std::vector<std::byte>;

// Runs `compute` on backends of 1 to 4 threads (more than some machines have cores) and compares
// the bytes it returns. Twice with 4: chance may hide a race once.
void expect_same_bits(const std::function<Bytes(Backend&)>& compute) {
  // A library left alone would use these: with 8, oneDNN cuts a sum that it keeps whole with 4.
  omp_set_num_threads(8);
  const Bytes expected = compute(*make_cpu_backend(1));
  for (const int threads : {2, 3, 4, 4}) {
    SCOPED_TRACE(testing::Message() << threads << " threads");
    EXPECT_TRUE(same_bits(compute(*make_cpu_backend(threads)), expected));
  }
}

void append(Bytes& bytes, Backend& backend, const Tensor& tensor) {
  const Bytes more = to_bytes(backend, tensor);
  bytes.insert(bytes.end(), more.begin(), more.end());
}

struct LinearShape {
  std::int64_t N, I, O;
};

class ThreadsLinear : public testing::TestWithParam<LinearShape> {};

TEST_P(ThreadsLinear, SameBits) {
  const auto [N, I, O] = GetParam();
  const auto x_values = normal_floats(N * I, 1), weight_values = normal_floats(O * I, 2);
  const auto bias_values = normal_floats(O, 3), d_out_values = normal_floats(N * O, 4);
  for (const DType type : {DType::fp32, DType::bf16}) {
    SCOPED_TRACE(to_string(type));
    expect_same_bits([&, N = N, I = I, O = O](Backend& backend) {
      const DeviceTensor x = to_device(backend, type, {N, I}, x_values);
      const DeviceTensor weight = to_device(backend, type, {O, I}, weight_values);
      const DeviceTensor bias = to_device(backend, type, {O}, bias_values);
      const DeviceTensor d_out = to_device(backend, type, {N, O}, d_out_values);
      const DeviceTensor out = zeros(backend, type, {N, O});
      const DeviceTensor pre_gelu = zeros(backend, type, {N, O});
      const DeviceTensor d_x = zeros(backend, type, {N, I});
      const DeviceTensor d_weight = zeros(backend, DType::fp32, {O, I});
      const DeviceTensor d_bias = zeros(backend, DType::fp32, {O});
      backend.run(LinearForward{.out = out,
                                .pre_gelu = pre_gelu,
                                .x = x,
                                .weight = weight,
                                .bias = bias,
                                .residual = {}});
      backend.run(LinearBackward{.d_x = d_x,
                                 .d_weight = d_weight,
                                 .d_bias = d_bias,
                                 .d_out = d_out,
                                 .x = x,
                                 .weight = weight,
                                 .pre_gelu = {},
                                 .accumulate = true});
      Bytes bytes;
      for (const Tensor& tensor :
           {out.tensor(), pre_gelu.tensor(), d_x.tensor(), d_weight.tensor(), d_bias.tensor()}) {
        append(bytes, backend, tensor);
      }
      return bytes;
    });
  }
}

// GPT-2's shapes, one that fills no tile, and one row: where a library would cut sums by threads.
INSTANTIATE_TEST_SUITE_P(Shapes, ThreadsLinear,
                         testing::Values(LinearShape{256, 768, 2304}, LinearShape{256, 3072, 768},
                                         LinearShape{130, 519, 1031}, LinearShape{1, 2048, 65}));

}  // namespace
}  // namespace lathe::test
