// Stands in for cuBLASLt: the calls that Lathe makes, as plain loops over the machine's memory. It
// refuses what the library refuses, and a little more: types that do not go together, leading
// dimensions and addresses that are no multiples of 16 bytes, plans that it did not make, and
// reductions whose order is not fixed.
#include <cublasLt.h>

#include <cmath>
#include <cstring>

#include "machine.h"
#include "runtime_state.h"

namespace lathe::ptx {
namespace {

constexpr std::size_t kAlignment = 16;
constexpr std::size_t kSplitWorkspace = 1 << 20;  // of the plan that cuts the depth in two

struct Description {
  cublasComputeType_t compute;
  cublasOperation_t transposed_a = CUBLAS_OP_N, transposed_b = CUBLAS_OP_N;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  void *bias = nullptr, *aux = nullptr;
  std::int64_t aux_leading = 0;
  cudaDataType_t bias_type = CUDA_R_32F, aux_type = CUDA_R_32F;

  bool has_bias() const {
    return epilogue == CUBLASLT_EPILOGUE_BIAS || epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS;
  }
  bool is_gelu() const {
    return epilogue == CUBLASLT_EPILOGUE_GELU_AUX || epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS;
  }
  bool has_aux() const { return is_gelu() || epilogue == CUBLASLT_EPILOGUE_DGELU; }
};

// A column-major matrix.
struct Layout {
  cudaDataType_t type;
  std::uint64_t rows, columns;
  std::int64_t leading;

  std::size_t element_bytes() const { return type == CUDA_R_16BF ? 2 : 4; }
  std::size_t bytes() const {
    return static_cast<std::size_t>(leading) * columns * element_bytes();
  }
};

struct Preference {
  std::size_t workspace = 0;
  std::uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_MASK;
};

// What is in the opaque words of a plan.
enum class Plan : std::uint64_t { none, in_place = 0x1a7e0001, whole, split };

template <class T, class Handle>
T& object(Handle handle) {
  return *reinterpret_cast<T*>(handle);
}

struct Product {
  Description description;
  Layout a, b, c, d;

  std::uint64_t M() const { return d.rows; }
  std::uint64_t N() const { return d.columns; }
  std::uint64_t K() const { return description.transposed_a == CUBLAS_OP_T ? a.rows : a.columns; }
};

bool types_fit(const Product& p) {
  const bool bf16 = p.a.type == CUDA_R_16BF && (p.d.type == CUDA_R_16BF || p.d.type == CUDA_R_32F);
  const bool fp32 = p.a.type == CUDA_R_32F && p.d.type == CUDA_R_32F;
  const bool tf32 = p.description.compute == CUBLAS_COMPUTE_32F_FAST_TF32;
  const bool compute = p.description.compute == CUBLAS_COMPUTE_32F || (tf32 && fp32);
  return compute && (bf16 || fp32) && p.b.type == p.a.type && p.c.type == p.d.type &&
         (!p.description.has_bias() || p.description.bias_type == p.d.type) &&
         (!p.description.has_aux() || p.description.aux_type == p.d.type);
}

bool shapes_fit(const Product& p) {
  const bool ta = p.description.transposed_a == CUBLAS_OP_T;
  const bool tb = p.description.transposed_b == CUBLAS_OP_T;
  const std::uint64_t m = ta ? p.a.columns : p.a.rows;
  const std::uint64_t n = tb ? p.b.rows : p.b.columns;
  const std::uint64_t depth_of_b = tb ? p.b.columns : p.b.rows;
  return m == p.M() && n == p.N() && depth_of_b == p.K() && p.c.rows == p.d.rows &&
         p.c.columns == p.d.columns;
}

bool is_aligned(const Layout& layout) {
  return layout.leading >= static_cast<std::int64_t>(layout.rows) &&
         static_cast<std::size_t>(layout.leading) * layout.element_bytes() % kAlignment == 0;
}

bool is_aligned(const void* pointer) {
  return reinterpret_cast<std::uintptr_t>(pointer) % kAlignment == 0;
}

// What a heuristic and a product both look at.
cublasStatus_t check(const Product& p) {
  const Description& d = p.description;
  if (!shapes_fit(p)) return CUBLAS_STATUS_INVALID_VALUE;
  if (d.has_bias() && (d.bias == nullptr || !is_aligned(d.bias)))
    return CUBLAS_STATUS_INVALID_VALUE;
  if (d.has_aux() && (d.aux == nullptr || !is_aligned(d.aux) || d.aux_leading % 8 != 0 ||
                      d.aux_leading < static_cast<std::int64_t>(p.M())))
    return CUBLAS_STATUS_INVALID_VALUE;
  const bool aligned = is_aligned(p.a) && is_aligned(p.b) && is_aligned(p.c) && is_aligned(p.d);
  return types_fit(p) && aligned ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

float load(const void* values, cudaDataType_t type, std::size_t i) {
  if (type == CUDA_R_32F) return static_cast<const float*>(values)[i];
  const std::uint32_t bits = static_cast<const std::uint16_t*>(values)[i];
  return std::bit_cast<float>(bits << 16);
}

void store(void* values, cudaDataType_t type, std::size_t i, float x) {
  if (type == CUDA_R_32F) {
    static_cast<float*>(values)[i] = x;
    return;
  }
  const auto bits = std::bit_cast<std::uint32_t>(x);
  const bool is_nan = std::isnan(x);
  const std::uint32_t rounded = bits + 0x7fff + (bits >> 16 & 1);  // to nearest even
  static_cast<std::uint16_t*>(values)[i] =
      static_cast<std::uint16_t>(is_nan ? 0x7fff : rounded >> 16);
}

float gelu(float x) {
  constexpr float kRootTwoOverPi = 0.7978845608f;
  return 0.5f * x * (1 + std::tanh(kRootTwoOverPi * (x + 0.044715f * x * x * x)));
}

float gelu_derivative(float x) {
  constexpr float kRootTwoOverPi = 0.7978845608f;
  const float t = std::tanh(kRootTwoOverPi * (x + 0.044715f * x * x * x));
  return 0.5f * (1 + t) + 0.5f * x * (1 - t * t) * kRootTwoOverPi * (1 + 3 * 0.044715f * x * x);
}

// A factor as dense floats, (rows, columns) of what the product sees, row after row.
std::vector<float> dense(const void* values, const Layout& layout, bool transposed) {
  const std::uint64_t rows = transposed ? layout.columns : layout.rows;
  const std::uint64_t columns = transposed ? layout.rows : layout.columns;
  std::vector<float> result(rows * columns);
  const auto leading = static_cast<std::size_t>(layout.leading);
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t c = 0; c < columns; ++c) {
      const std::size_t at = transposed ? r * leading + c : c * leading + r;
      result[r * columns + c] = load(values, layout.type, at);
    }
  }
  return result;
}

struct Operands {
  const void *a, *b, *c;
  void* d;
  float alpha, beta;
};

bool are_on_device(const Product& p, const Operands& o) {
  auto& memory = machine().memory;
  return memory.contains(o.a, p.a.bytes()) && memory.contains(o.b, p.b.bytes()) &&
         memory.contains(o.c, p.c.bytes()) && memory.contains(o.d, p.d.bytes());
}

// Finishes one sum: row m, column n of the column-major result.
float finish(const Product& p, std::size_t m, std::size_t n, float y) {
  const Description& d = p.description;
  if (d.has_bias()) y += load(d.bias, d.bias_type, m);
  const std::size_t aux = n * static_cast<std::size_t>(d.aux_leading) + m;
  if (d.is_gelu()) {
    store(d.aux, d.aux_type, aux, y);
    return gelu(y);
  }
  return d.has_aux() ? y * gelu_derivative(load(d.aux, d.aux_type, aux)) : y;
}

// Sums one row over [begin, end) of the depth.
void add_row(std::vector<float>& sums, const float* a, const float* b, std::size_t begin,
             std::size_t end) {
  for (std::size_t k = begin; k < end; ++k) {
    const float factor = a[k];
    const float* row = b + k * sums.size();
    for (std::size_t n = 0; n < sums.size(); ++n) sums[n] += factor * row[n];
  }
}

cudaError_t multiply(const Product& p, const Operands& o, Plan plan) {
  if (!are_on_device(p, o)) {
    return runtime().fail(cudaErrorInvalidValue, "cublasLtMatmul: memory that is not allocated");
  }
  const std::size_t M = p.M(), N = p.N(), K = p.K();
  const Description& description = p.description;
  const std::size_t bias_bytes = description.has_bias() ? M * p.d.element_bytes() : 0;
  const std::size_t aux_bytes =
      description.has_aux()
          ? static_cast<std::size_t>(description.aux_leading) * N * p.d.element_bytes()
          : 0;
  const cudaError_t raced =
      runtime().use("cublasLtMatmul",
                    {{o.a, p.a.bytes(), Use::read},
                     {o.b, p.b.bytes(), Use::read},
                     {o.c, o.beta == 0 ? 0 : p.c.bytes(), Use::read},
                     {description.bias, bias_bytes, Use::read},
                     {description.aux, aux_bytes, description.is_gelu() ? Use::write : Use::read},
                     {o.d, p.d.bytes(), Use::write}});
  if (raced != cudaSuccess) return raced;
  const auto a = dense(o.a, p.a, p.description.transposed_a == CUBLAS_OP_T);
  const auto b = dense(o.b, p.b, p.description.transposed_b == CUBLAS_OP_T);
  const std::size_t middle = plan == Plan::split ? K / 2 : K;
  std::vector<float> sums(N), others(N);
  for (std::size_t m = 0; m < M; ++m) {
    std::fill(sums.begin(), sums.end(), 0.0f);
    std::fill(others.begin(), others.end(), 0.0f);
    add_row(sums, a.data() + m * K, b.data(), 0, middle);
    add_row(others, a.data() + m * K, b.data(), middle, K);
    for (std::size_t n = 0; n < N; ++n) {
      float y = o.alpha * (sums[n] + others[n]);
      const std::size_t in_c = n * static_cast<std::size_t>(p.c.leading) + m;
      if (o.beta != 0) y += o.beta * load(o.c, p.c.type, in_c);
      store(o.d, p.d.type, n * static_cast<std::size_t>(p.d.leading) + m, finish(p, m, n, y));
    }
  }
  return cudaSuccess;
}

template <class T>
cublasStatus_t assign(T& to, const void* value, std::size_t bytes) {
  if (bytes != sizeof(T)) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(&to, value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

}  // namespace
}  // namespace lathe::ptx

using namespace lathe::ptx;

extern "C" {

size_t cublasLtGetVersion() {
  return CUBLAS_VERSION;
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  *handle = reinterpret_cast<cublasLtHandle_t>(new char);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  delete reinterpret_cast<char*>(handle);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* description,
                                        cublasComputeType_t compute, cudaDataType_t scale) {
  if (scale != CUDA_R_32F) return CUBLAS_STATUS_NOT_SUPPORTED;
  *description = reinterpret_cast<cublasLtMatmulDesc_t>(new Description{.compute = compute});
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t description) {
  delete &object<Description>(description);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t handle,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, size_t bytes) {
  Description& d = object<Description>(handle);
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
      return assign(d.transposed_a, value, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSB:
      return assign(d.transposed_b, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
      return assign(d.epilogue, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
      return assign(d.bias, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
      return assign(d.bias_type, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER:
      return assign(d.aux, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD:
      return assign(d.aux_leading, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE:
      return assign(d.aux_type, value, bytes);
    default:
      return CUBLAS_STATUS_NOT_SUPPORTED;
  }
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType_t type,
                                          uint64_t rows, uint64_t columns, int64_t leading) {
  *layout = reinterpret_cast<cublasLtMatrixLayout_t>(new Layout{type, rows, columns, leading});
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  delete &object<Layout>(layout);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  *preference = reinterpret_cast<cublasLtMatmulPreference_t>(new Preference);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  delete &object<Preference>(preference);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t handle,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void* value, size_t bytes) {
  Preference& preference = object<Preference>(handle);
  std::uint32_t alignment = 0;
  switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
      return assign(preference.workspace, value, bytes);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
      return assign(preference.reductions, value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
      return assign(alignment, value, bytes);
    default:
      return CUBLAS_STATUS_NOT_SUPPORTED;
  }
}

// The reduction in place comes first when it is allowed, so that allowing it shows.
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t description,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t handle, int wanted,
                                              cublasLtMatmulHeuristicResult_t results[],
                                              int* count) {
  const Product product{object<Description>(description), object<Layout>(a), object<Layout>(b),
                        object<Layout>(c), object<Layout>(d)};
  const Preference& preference = object<Preference>(handle);
  *count = 0;
  if (const cublasStatus_t status = check(product); status != CUBLAS_STATUS_SUCCESS) return status;
  const auto propose = [&](Plan plan, std::size_t workspace) {
    if (*count == wanted) return;
    cublasLtMatmulHeuristicResult_t& result = results[(*count)++];
    result = {};
    result.algo.data[0] = static_cast<std::uint64_t>(plan);
    result.workspaceSize = workspace;
    result.state = CUBLAS_STATUS_SUCCESS;
  };
  if ((preference.reductions & CUBLASLT_REDUCTION_SCHEME_INPLACE) != 0) propose(Plan::in_place, 0);
  propose(Plan::whole, 0);
  if ((preference.reductions & CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE) != 0 &&
      preference.workspace >= kSplitWorkspace)
    propose(Plan::split, kSplitWorkspace);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t description, const void* alpha,
                              const void* a, cublasLtMatrixLayout_t a_layout, const void* b,
                              cublasLtMatrixLayout_t b_layout, const void* beta, const void* c,
                              cublasLtMatrixLayout_t c_layout, void* d,
                              cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t* algorithm, void* workspace,
                              size_t workspace_bytes, cudaStream_t stream_handle) {
  const Call call;
  Stream* stream = runtime().find_of_device(stream_handle);
  if (stream == nullptr) return CUBLAS_STATUS_EXECUTION_FAILED;
  const Product product{object<Description>(description), object<Layout>(a_layout),
                        object<Layout>(b_layout), object<Layout>(c_layout),
                        object<Layout>(d_layout)};
  const Operands operands{
      a, b, c, d, *static_cast<const float*>(alpha), *static_cast<const float*>(beta)};
  if (const cublasStatus_t status = check(product); status != CUBLAS_STATUS_SUCCESS) return status;
  for (const void* operand : {a, b, c, static_cast<const void*>(d)}) {
    if (!is_aligned(operand)) return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  const auto plan = static_cast<Plan>(algorithm->data[0]);
  if (plan != Plan::whole && plan != Plan::split) return CUBLAS_STATUS_INVALID_VALUE;
  if (plan == Plan::split &&
      (workspace_bytes < kSplitWorkspace || !machine().memory.contains(workspace, workspace_bytes)))
    return CUBLAS_STATUS_INVALID_VALUE;
  const cudaError_t error = submit(*stream, [=] { return multiply(product, operands, plan); });
  return error == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}

}  // extern "C"
