// The stand-in for cuBLASLt and for the CUDA runtime (ptx_machine/): that it refuses what they
// refuse. A stand-in that takes everything would let through what fails on a GPU.
#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <string>

namespace lathe::test {
namespace {

// d = a b in column-major fp32 or bf16, (M, K) times (K, N); every part of it can be spoiled.
struct Call {
  std::int64_t M = 16, N = 8, K = 24;
  cudaDataType_t a_type = CUDA_R_16BF, b_type = CUDA_R_16BF, d_type = CUDA_R_16BF;
  cublasComputeType_t compute = CUBLAS_COMPUTE_32F;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  std::int64_t a_leading = 16, b_rows = 24, aux_leading = 16;
  cudaDataType_t bias_type = CUDA_R_16BF;
  std::size_t offset = 0;  // of a's address
  std::uint64_t word = 0;  // of the plan; 0: the first that is proposed
  std::size_t workspace = 0;
};

template <class T>
void set(cublasLtMatmulDesc_t description, cublasLtMatmulDescAttributes_t attribute, T value) {
  ASSERT_EQ(cublasLtMatmulDescSetAttribute(description, attribute, &value, sizeof(value)),
            CUBLAS_STATUS_SUCCESS);
}

struct Outcome {
  cublasStatus_t heuristic, matmul;
  bool operator==(const Outcome&) const = default;
};

class StandIn : public testing::Test {
 protected:
  StandIn() {
    cublasLtCreate(&handle_);
    cudaMalloc(&memory_, kBytes);
    cudaMemset(memory_, 0, kBytes);
  }
  ~StandIn() override {
    cudaFree(memory_);
    cublasLtDestroy(handle_);
  }

  Outcome run(const Call& call) {
    cublasLtMatmulDesc_t description = nullptr;
    cublasLtMatmulDescCreate(&description, call.compute, CUDA_R_32F);
    set(description, CUBLASLT_MATMUL_DESC_EPILOGUE, call.epilogue);
    set(description, CUBLASLT_MATMUL_DESC_BIAS_POINTER, memory_);
    set(description, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, call.bias_type);
    set(description, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, memory_);
    set(description, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, call.aux_leading);
    set(description, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE, call.d_type);
    cublasLtMatrixLayout_t a = nullptr, b = nullptr, d = nullptr;
    const auto size = [](std::int64_t n) { return static_cast<std::uint64_t>(n); };
    cublasLtMatrixLayoutCreate(&a, call.a_type, size(call.M), size(call.K), call.a_leading);
    cublasLtMatrixLayoutCreate(&b, call.b_type, size(call.b_rows), size(call.N), call.b_rows);
    cublasLtMatrixLayoutCreate(&d, call.d_type, size(call.M), size(call.N), call.M);
    cublasLtMatmulPreference_t preference = nullptr;
    cublasLtMatmulPreferenceCreate(&preference);
    cublasLtMatmulHeuristicResult_t result = {};
    int count = 0;
    Outcome outcome{};
    outcome.heuristic = cublasLtMatmulAlgoGetHeuristic(handle_, description, a, b, d, d, preference,
                                                       1, &result, &count);
    constexpr std::uint64_t kWhole = 0x1a7e0002;
    result.algo.data[0] = call.word == 0 ? kWhole : call.word;
    const float one = 1, zero = 0;
    auto* bytes = static_cast<std::byte*>(memory_);
    outcome.matmul =
        cublasLtMatmul(handle_, description, &one, bytes + call.offset, a, bytes + kBytes / 2, b,
                       &zero, bytes + kBytes / 4, d, bytes + kBytes / 4, d, &result.algo, memory_,
                       call.workspace, nullptr);
    cublasLtMatmulPreferenceDestroy(preference);
    for (const cublasLtMatrixLayout_t layout : {a, b, d}) cublasLtMatrixLayoutDestroy(layout);
    cublasLtMatmulDescDestroy(description);
    return outcome;
  }

  static constexpr std::size_t kBytes = 1 << 16;
  cublasLtHandle_t handle_ = nullptr;
  void* memory_ = nullptr;
};

constexpr Outcome kRuns = {CUBLAS_STATUS_SUCCESS, CUBLAS_STATUS_SUCCESS};
constexpr Outcome kUnsupported = {CUBLAS_STATUS_NOT_SUPPORTED, CUBLAS_STATUS_NOT_SUPPORTED};
constexpr Outcome kInvalid = {CUBLAS_STATUS_INVALID_VALUE, CUBLAS_STATUS_INVALID_VALUE};

TEST_F(StandIn, RunsWhatIsRight) {
  EXPECT_EQ(run({}), kRuns);
  EXPECT_EQ(run({.d_type = CUDA_R_32F}), kRuns);
  EXPECT_EQ(run({.epilogue = CUBLASLT_EPILOGUE_GELU_AUX_BIAS}), kRuns);
  EXPECT_EQ(run({.a_type = CUDA_R_32F,
                 .b_type = CUDA_R_32F,
                 .d_type = CUDA_R_32F,
                 .compute = CUBLAS_COMPUTE_32F_FAST_TF32}),
            kRuns);
}

TEST_F(StandIn, RefusesTypesThatDoNotGoTogether) {
  EXPECT_EQ(run({.b_type = CUDA_R_32F}), kUnsupported);
  EXPECT_EQ(run({.a_type = CUDA_R_32F, .b_type = CUDA_R_32F}), kUnsupported);  // bf16 result
  EXPECT_EQ(run({.compute = CUBLAS_COMPUTE_32F_FAST_TF32}), kUnsupported);     // of bf16
  EXPECT_EQ(run({.epilogue = CUBLASLT_EPILOGUE_BIAS, .bias_type = CUDA_R_32F}), kUnsupported);
}

TEST_F(StandIn, RefusesShapesAndLeadingDimensions) {
  EXPECT_EQ(run({.b_rows = 32}), kInvalid);         // another depth
  EXPECT_EQ(run({.a_leading = 17}), kUnsupported);  // no multiple of 16 bytes
  EXPECT_EQ(run({.a_leading = 8}), kUnsupported);   // less than the rows
  EXPECT_EQ(run({.epilogue = CUBLASLT_EPILOGUE_GELU_AUX, .aux_leading = 20}), kInvalid);
  EXPECT_EQ(run({.epilogue = CUBLASLT_EPILOGUE_DGELU, .aux_leading = 8}), kInvalid);
}

TEST_F(StandIn, RefusesAddressesAndPlans) {
  constexpr std::uint64_t kInPlace = 0x1a7e0001, kSplit = 0x1a7e0003;
  const Outcome refused = {CUBLAS_STATUS_SUCCESS, CUBLAS_STATUS_INVALID_VALUE};
  EXPECT_EQ(run({.offset = 8}), (Outcome{CUBLAS_STATUS_SUCCESS, CUBLAS_STATUS_NOT_SUPPORTED}));
  EXPECT_EQ(run({.word = 12345}), refused);
  EXPECT_EQ(run({.word = kInPlace}), refused);
  EXPECT_EQ(run({.word = kSplit, .workspace = 100}), refused);
  EXPECT_EQ(run({.offset = kBytes - 16}),  // beyond what is allocated
            (Outcome{CUBLAS_STATUS_SUCCESS, CUBLAS_STATUS_EXECUTION_FAILED}));
  cudaGetLastError();
}

TEST_F(StandIn, DoesNothingDuringACapture) {
  cudaStream_t stream = nullptr;
  cudaStreamCreate(&stream);
  unsigned char before = 1, after = 1;
  ASSERT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  EXPECT_EQ(cudaMemsetAsync(memory_, 7, 1, stream), cudaSuccess);
  void* more = nullptr;
  EXPECT_EQ(cudaMalloc(&more, 16), cudaErrorStreamCaptureUnsupported);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorStreamCaptureUnsupported);
  cudaGraph_t graph = nullptr;
  ASSERT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
  cudaGetLastError();
  cudaMemcpy(&before, memory_, 1, cudaMemcpyDeviceToHost);
  EXPECT_EQ(before, 0);

  cudaGraphExec_t executable = nullptr;
  ASSERT_EQ(cudaGraphInstantiate(&executable, graph, 0), cudaSuccess);
  cudaGraphDestroy(graph);
  EXPECT_EQ(cudaGraphLaunch(executable, stream), cudaSuccess);
  cudaMemcpy(&after, memory_, 1, cudaMemcpyDeviceToHost);
  EXPECT_EQ(after, 7);
  cudaGraphExecDestroy(executable);
  cudaStreamDestroy(stream);
}

TEST_F(StandIn, RefusesCopiesOfTheWrongKind) {
  float host = 0;
  EXPECT_EQ(cudaMemcpy(memory_, &host, 4, cudaMemcpyDeviceToDevice), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpy(&host, memory_, kBytes + 1, cudaMemcpyDeviceToHost), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFree(static_cast<std::byte*>(memory_) + 16), cudaErrorInvalidValue);
  cudaGetLastError();
}

}  // namespace
}  // namespace lathe::test
