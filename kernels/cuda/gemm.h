// Matrix products through cuBLASLt, with what follows them done while the product's tile is still
// in registers. This header names no type of cuBLASLt, whose headers nvcc 13.0 cannot always
// compile.
#pragma once

#include <cuda_runtime_api.h>

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "lathe/backend.h"
#include "lathe/tensor.h"
#include "owned.h"

namespace lathe::cuda {

enum class GemmEpilogue {
  none,
  gelu,             // pre_gelu = the sum, out = gelu(pre_gelu)
  gelu_derivative,  // out = the sum times gelu'(pre_gelu)
};

// out = epilogue(a b + c + bias), all row-major.
struct Gemm {
  Tensor out;                       // (M, N) compute or fp32
  Tensor a;                         // (M, K) compute, or (K, M) when transposed
  Tensor b;                         // (K, N) compute, or (N, K) when transposed
  bool a_transposed, b_transposed;  // as they lie in memory
  Tensor c;                         // (M, N) as out, or empty; may be out's memory
  Tensor bias;                      // (N) compute, or empty
  Tensor pre_gelu;                  // (M, N) compute, with an epilogue
  GemmEpilogue epilogue;
};

// How one product is computed. `algorithm` is cuBLASLt's own description, which means the same to
// the same version of it on the same GPU.
struct GemmPlan {
  std::array<std::uint64_t, 8> algorithm = {};
  bool separate_epilogue = false;  // gelu in a kernel of its own
  bool operator==(const GemmPlan&) const = default;
};

// The products of a GPU. For work that repeats a plan is chosen when a product of its shape is
// first seen, by timing cuBLASLt's candidates on the very operands, and kept: the same plans give
// the same bits. What is computed once takes the first candidate.
class Gemms {
 public:
  struct Options {
    bool tf32;    // fp32 factors on tensor cores
    bool tuning;  // false: cuBLASLt's first candidate
  };

  // Runs on `stream`, which must outlive this. Errors: internal, when cuBLASLt is not there.
  Gemms(cudaStream_t stream, const Options& options, Buffer workspace, std::int64_t bytes);
  ~Gemms();

  // Whether cuBLASLt's fast paths take the operands: rows and addresses are multiples of 16 bytes.
  static bool takes(const Gemm& gemm);

  // Errors: internal, naming the product, when cuBLASLt has no way to compute it.
  void run(const Gemm& gemm);

  // Whether what is run from here on will come again, so that timing pays.
  void set_repeating(bool repeating) { repeating_ = repeating; }

  // The plans by product, as JSON with the GPU and the library they hold for.
  std::string plans() const;

  // Takes plans over from an earlier process, or leaves a message saying why not.
  void restore_plans(const std::string& json);

  // Lines about plans that do not fit, since the last call.
  std::vector<std::string> take_messages();

 private:
  struct Handle;

  GemmPlan& find_plan(const Gemm& gemm, const std::string& name);
  GemmPlan choose(const Gemm& gemm, const std::string& name);
  std::vector<GemmPlan> candidates(const Gemm& gemm, bool separate_epilogue);
  float milliseconds(const Gemm& gemm, const GemmPlan& plan);
  bool try_run(const Gemm& gemm, const GemmPlan& plan);

  cudaStream_t stream_;
  Options options_;
  Buffer workspace_;
  std::int64_t workspace_bytes_;
  std::unique_ptr<Handle> handle_;
  OwnedEvent begin_, end_;
  std::string gpu_;
  bool repeating_ = false;
  std::map<std::string, GemmPlan> plans_;          // kept
  std::map<std::string, GemmPlan> passing_plans_;  // of work that does not repeat
  std::vector<std::string> messages_;
};

// Element-wise, (M, N) each: out = gelu(pre_gelu); d = d * gelu'(pre_gelu).
void apply_gelu(const Tensor& out, const Tensor& pre_gelu, cudaStream_t stream);
void apply_gelu_derivative(const Tensor& d, const Tensor& pre_gelu, cudaStream_t stream);

}  // namespace lathe::cuda
