#include "gemm.h"

#include <cublasLt.h>
#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <span>
#include <utility>

#include "lathe/error.h"
#include "launch.h"

namespace lathe::cuda {
namespace {

void check(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw Error(ExitCode::internal, fmt::format("[{}] cuBLASLt status {}", what, int{status}));
}

// An object of cuBLASLt, destroyed with its owner.
template <class T, cublasStatus_t (*Destroy)(T*)>
struct Destroyer {
  void operator()(T* object) const { Destroy(object); }
};
using OwnedDescription =
    std::unique_ptr<cublasLtMatmulDescOpaque_t,
                    Destroyer<cublasLtMatmulDescOpaque_t, cublasLtMatmulDescDestroy>>;
using OwnedLayout =
    std::unique_ptr<cublasLtMatrixLayoutOpaque_t,
                    Destroyer<cublasLtMatrixLayoutOpaque_t, cublasLtMatrixLayoutDestroy>>;
using OwnedPreference =
    std::unique_ptr<cublasLtMatmulPreferenceOpaque_t,
                    Destroyer<cublasLtMatmulPreferenceOpaque_t, cublasLtMatmulPreferenceDestroy>>;

constexpr std::uint32_t kAlignment = 16;  // of rows and addresses, in bytes
constexpr int kMaxCandidates = 16;
constexpr int kTimedRuns = 3;

cudaDataType_t data_type(DType type) {
  return type == DType::bf16 ? CUDA_R_16BF : CUDA_R_32F;
}

// cuBLASLt's matrices are column-major, so a row-major one is its transpose to it.
OwnedLayout layout_of(const Tensor& matrix) {
  cublasLtMatrixLayout_t layout = nullptr;
  const auto rows = static_cast<std::uint64_t>(matrix.size(0));
  const auto columns = static_cast<std::uint64_t>(matrix.size(1));
  check(
      cublasLtMatrixLayoutCreate(&layout, data_type(matrix.type()), columns, rows, matrix.size(1)),
      "cublasLtMatrixLayoutCreate");
  return OwnedLayout(layout);
}

cublasLtEpilogue_t epilogue_of(const Gemm& gemm) {
  const bool has_bias = !gemm.bias.empty();
  switch (gemm.epilogue) {
    case GemmEpilogue::none:
      return has_bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
    case GemmEpilogue::gelu:
      return has_bias ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX;
    case GemmEpilogue::gelu_derivative:
      return CUBLASLT_EPILOGUE_DGELU;
  }
  return CUBLASLT_EPILOGUE_DEFAULT;
}

// A product as cuBLASLt describes it: out^T = b^T a^T, so its first factor is our second.
struct Description {
  Description(const Gemm& gemm, bool tf32);

  template <class T>
  void set(cublasLtMatmulDescAttributes_t attribute, const T& value) {
    check(cublasLtMatmulDescSetAttribute(matmul.get(), attribute, static_cast<const void*>(&value),
                                         sizeof(value)),
          "cublasLtMatmulDescSetAttribute");
  }

  OwnedDescription matmul;
  OwnedLayout first, second, out;
};

Description::Description(const Gemm& gemm, bool tf32)
    : first(layout_of(gemm.b)), second(layout_of(gemm.a)), out(layout_of(gemm.out)) {
  const bool fast = tf32 && gemm.a.type() == DType::fp32;
  cublasLtMatmulDesc_t description = nullptr;
  check(cublasLtMatmulDescCreate(
            &description, fast ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F, CUDA_R_32F),
        "cublasLtMatmulDescCreate");
  matmul.reset(description);
  set(CUBLASLT_MATMUL_DESC_TRANSA, gemm.b_transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(CUBLASLT_MATMUL_DESC_TRANSB, gemm.a_transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue_of(gemm));
  if (!gemm.bias.empty()) {
    const void* bias = gemm.bias.data();
    set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
    set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, data_type(gemm.bias.type()));
  }
  if (gemm.epilogue != GemmEpilogue::none) {
    const void* pre_gelu = gemm.pre_gelu.data();
    set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, pre_gelu);
    set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, gemm.pre_gelu.size(1));
    set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE, data_type(gemm.pre_gelu.type()));
  }
}

template <class T>
void set(const OwnedPreference& preference, cublasLtMatmulPreferenceAttributes_t attribute,
         const T& value) {
  check(cublasLtMatmulPreferenceSetAttribute(preference.get(), attribute,
                                             static_cast<const void*>(&value), sizeof(value)),
        "cublasLtMatmulPreferenceSetAttribute");
}

// No reduction that depends on the order in which blocks end, none that rounds on its way.
OwnedPreference make_preference(std::int64_t workspace_bytes) {
  cublasLtMatmulPreference_t created = nullptr;
  check(cublasLtMatmulPreferenceCreate(&created), "cublasLtMatmulPreferenceCreate");
  OwnedPreference preference(created);
  set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
      static_cast<std::uint64_t>(workspace_bytes));
  set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
      std::uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE});
  for (const auto operand :
       {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
    set(preference, operand, kAlignment);
  }
  return preference;
}

// The product alone, whose epilogue a kernel does afterwards.
Gemm without_epilogue(Gemm gemm) {
  if (gemm.epilogue == GemmEpilogue::gelu) gemm.out = gemm.pre_gelu;
  gemm.pre_gelu = {};
  gemm.epilogue = GemmEpilogue::none;
  return gemm;
}

// What a plan depends on. Adding to what is there costs the same whatever is added to, so that a
// gradient that is written and one that is added to share a plan.
std::string name_of(const Gemm& gemm, bool tf32) {
  constexpr const char* kEpilogues[] = {"", " gelu", " gelu_derivative"};
  const bool adds_other = !gemm.c.empty() && gemm.c.data() != gemm.out.data();
  const std::int64_t depth = gemm.a.size(gemm.a_transposed ? 0 : 1);
  return fmt::format("{}x{}x{} {}{} {} to {}{}{}{}", gemm.out.size(0), gemm.out.size(1), depth,
                     gemm.a_transposed ? 'T' : 'N', gemm.b_transposed ? 'T' : 'N',
                     tf32 && gemm.a.type() == DType::fp32 ? "tf32" : to_string(gemm.a.type()),
                     to_string(gemm.out.type()), gemm.bias.empty() ? "" : " bias",
                     kEpilogues[static_cast<int>(gemm.epilogue)], adds_other ? " add" : "");
}

std::string gpu_name() {
  int device = 0;
  cuda::check(cudaGetDevice(&device), "cudaGetDevice");
  cudaDeviceProp properties = {};
  cuda::check(cudaGetDeviceProperties(&properties, device), "cudaGetDeviceProperties");
  return properties.name;
}

cublasLtMatmulAlgo_t algorithm_of(const GemmPlan& plan) {
  cublasLtMatmulAlgo_t algorithm = {};
  std::copy(plan.algorithm.begin(), plan.algorithm.end(), algorithm.data);
  return algorithm;
}

bool is_wide(const Tensor& matrix) {
  return matrix.empty() || cuda::is_wide(matrix.size(matrix.rank() - 1), {matrix});
}

}  // namespace

struct Gemms::Handle {
  Handle() {
    check(cublasLtCreate(&handle),
          "cublasLtCreate: the CUDA backend needs libcublasLt.so.13 on the library path");
  }
  ~Handle() { cublasLtDestroy(handle); }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;

  cublasLtHandle_t handle = nullptr;
};

Gemms::Gemms(cudaStream_t stream, const Options& options, Buffer workspace, std::int64_t bytes)
    : stream_(stream),
      options_(options),
      workspace_(std::move(workspace)),
      workspace_bytes_(bytes),
      handle_(std::make_unique<Handle>()),
      begin_(make_event()),
      end_(make_event()),
      gpu_(gpu_name()) {}

Gemms::~Gemms() = default;

bool Gemms::takes(const Gemm& gemm) {
  return is_wide(gemm.out) && is_wide(gemm.a) && is_wide(gemm.b) && is_wide(gemm.c) &&
         is_wide(gemm.pre_gelu) && is_wide(gemm.bias);
}

void Gemms::run(const Gemm& gemm) {
  const std::string name = name_of(gemm, options_.tf32);
  GemmPlan& plan = find_plan(gemm, name);
  if (try_run(gemm, plan)) return;
  messages_.push_back(
      fmt::format("the plan for the product {} does not fit this GPU and cuBLASLt: chosen anew, "
                  "results may differ in their last bits",
                  name));
  plan = choose(gemm, name);
  if (!try_run(gemm, plan)) {
    throw Error(ExitCode::internal, fmt::format("cuBLASLt refuses its own plan for {}", name));
  }
}

GemmPlan& Gemms::find_plan(const Gemm& gemm, const std::string& name) {
  if (const auto kept = plans_.find(name); kept != plans_.end()) return kept->second;
  auto& plans = repeating_ ? plans_ : passing_plans_;
  const auto found = plans.find(name);
  return found != plans.end() ? found->second
                              : plans.emplace(name, choose(gemm, name)).first->second;
}

// False when cuBLASLt does not know how to run the plan.
bool Gemms::try_run(const Gemm& gemm, const GemmPlan& plan) {
  const bool separate = plan.separate_epilogue;
  const Gemm product = separate ? without_epilogue(gemm) : gemm;
  const Description d(product, options_.tf32);
  const cublasLtMatmulAlgo_t algorithm = algorithm_of(plan);
  const float one = 1, beta = gemm.c.empty() ? 0.0f : 1.0f;
  const Tensor& c = gemm.c.empty() ? product.out : gemm.c;
  const cublasStatus_t status = cublasLtMatmul(
      handle_->handle, d.matmul.get(), &one, product.b.data(), d.first.get(), product.a.data(),
      d.second.get(), &beta, c.data(), d.out.get(), product.out.data(), d.out.get(), &algorithm,
      workspace_.get(), static_cast<std::size_t>(workspace_bytes_), stream_);
  if (status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE) return false;
  check(status, "cublasLtMatmul");
  if (separate && gemm.epilogue == GemmEpilogue::gelu) {
    apply_gelu(gemm.out, gemm.pre_gelu, stream_);
  } else if (separate) {
    apply_gelu_derivative(gemm.out, gemm.pre_gelu, stream_);
  }
  return true;
}

// cuBLASLt's proposals, most promising first; none when it does not support the product.
std::vector<GemmPlan> Gemms::candidates(const Gemm& gemm, bool separate_epilogue) {
  const Description d(separate_epilogue ? without_epilogue(gemm) : gemm, options_.tf32);
  const OwnedPreference preference = make_preference(workspace_bytes_);
  std::array<cublasLtMatmulHeuristicResult_t, kMaxCandidates> results = {};
  int count = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
      handle_->handle, d.matmul.get(), d.first.get(), d.second.get(), d.out.get(), d.out.get(),
      preference.get(), kMaxCandidates, results.data(), &count);
  std::vector<GemmPlan> plans;
  if (status != CUBLAS_STATUS_SUCCESS) return plans;
  for (const auto& result : std::span(results).first(static_cast<std::size_t>(count))) {
    if (result.state != CUBLAS_STATUS_SUCCESS) continue;
    GemmPlan plan{.separate_epilogue = separate_epilogue};
    std::copy(std::begin(result.algo.data), std::end(result.algo.data), plan.algorithm.begin());
    plans.push_back(plan);
  }
  return plans;
}

// The fastest candidate; the first where timing is off, or would add to `out` again and again.
GemmPlan Gemms::choose(const Gemm& gemm, const std::string& name) {
  std::vector<GemmPlan> plans = candidates(gemm, /*separate_epilogue=*/false);
  if (gemm.epilogue != GemmEpilogue::none) {
    const std::vector<GemmPlan> separate = candidates(gemm, /*separate_epilogue=*/true);
    plans.insert(plans.end(), separate.begin(), separate.end());
  }
  if (plans.empty()) {
    throw Error(ExitCode::internal, fmt::format("cuBLASLt has no algorithm for {}", name));
  }
  const bool is_repeatable = gemm.c.empty() || gemm.c.data() != gemm.out.data();
  if (!options_.tuning || !repeating_ || !is_repeatable) return plans.front();
  GemmPlan best;
  float shortest = std::numeric_limits<float>::infinity();
  for (const GemmPlan& plan : plans) {
    const float time = milliseconds(gemm, plan);
    if (time < shortest) {
      shortest = time;
      best = plan;
    }
  }
  return best;
}

// The shortest of a few runs; infinity for a plan that does not run.
float Gemms::milliseconds(const Gemm& gemm, const GemmPlan& plan) {
  float shortest = std::numeric_limits<float>::infinity();
  if (!try_run(gemm, plan)) return shortest;  // warms up
  for (int run = 0; run < kTimedRuns; ++run) {
    cuda::check(cudaEventRecord(begin_.get(), stream_), "cudaEventRecord");
    try_run(gemm, plan);
    cuda::check(cudaEventRecord(end_.get(), stream_), "cudaEventRecord");
    cuda::check(cudaEventSynchronize(end_.get()), "cudaEventSynchronize");
    float time = 0;
    cuda::check(cudaEventElapsedTime(&time, begin_.get(), end_.get()), "cudaEventElapsedTime");
    shortest = std::min(shortest, time);
  }
  return shortest;
}

std::vector<std::string> Gemms::take_messages() {
  return std::exchange(messages_, {});
}

}  // namespace lathe::cuda
