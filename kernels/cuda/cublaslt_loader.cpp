// cuBLASLt's functions as Lathe calls them, found in the library when the first one is called. So a
// build with CUDA starts where the library (half a gigabyte) is missing, and pays for loading it
// only when a GPU is used. Where it cannot be loaded every call answers NOT_INITIALIZED.
#include <cublasLt.h>
#include <dlfcn.h>

namespace {

void* library() {
  static void* const loaded = dlopen("libcublasLt.so.13", RTLD_NOW | RTLD_LOCAL);
  return loaded;
}

// Calls `name` in the library, with the type that the header gives it.
template <class... Parameters, class... Arguments>
cublasStatus_t call(cublasStatus_t (* /*declared*/)(Parameters...), const char* name,
                    Arguments... arguments) {
  void* const symbol = library() == nullptr ? nullptr : dlsym(library(), name);
  if (symbol == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  return reinterpret_cast<cublasStatus_t (*)(Parameters...)>(symbol)(arguments...);
}

}  // namespace

extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  return call(cublasLtCreate, "cublasLtCreate", handle);
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  return call(cublasLtDestroy, "cublasLtDestroy", handle);
}

size_t cublasLtGetVersion() {
  void* const symbol = library() == nullptr ? nullptr : dlsym(library(), "cublasLtGetVersion");
  return symbol == nullptr ? 0 : reinterpret_cast<size_t (*)()>(symbol)();
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* description,
                                        cublasComputeType_t compute, cudaDataType_t scale) {
  return call(cublasLtMatmulDescCreate, "cublasLtMatmulDescCreate", description, compute, scale);
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t description) {
  return call(cublasLtMatmulDescDestroy, "cublasLtMatmulDescDestroy", description);
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t description,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, size_t bytes) {
  return call(cublasLtMatmulDescSetAttribute, "cublasLtMatmulDescSetAttribute", description,
              attribute, value, bytes);
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType_t type,
                                          uint64_t rows, uint64_t columns, int64_t leading) {
  return call(cublasLtMatrixLayoutCreate, "cublasLtMatrixLayoutCreate", layout, type, rows, columns,
              leading);
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  return call(cublasLtMatrixLayoutDestroy, "cublasLtMatrixLayoutDestroy", layout);
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  return call(cublasLtMatmulPreferenceCreate, "cublasLtMatmulPreferenceCreate", preference);
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  return call(cublasLtMatmulPreferenceDestroy, "cublasLtMatmulPreferenceDestroy", preference);
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void* value, size_t bytes) {
  return call(cublasLtMatmulPreferenceSetAttribute, "cublasLtMatmulPreferenceSetAttribute",
              preference, attribute, value, bytes);
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t matmul,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t results[],
                                              int* count) {
  return call(cublasLtMatmulAlgoGetHeuristic, "cublasLtMatmulAlgoGetHeuristic", handle, matmul, a,
              b, c, d, preference, wanted, results, count);
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t matmul,
                              const void* alpha, const void* a, cublasLtMatrixLayout_t a_layout,
                              const void* b, cublasLtMatrixLayout_t b_layout, const void* beta,
                              const void* c, cublasLtMatrixLayout_t c_layout, void* d,
                              cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t* algorithm, void* workspace,
                              size_t workspace_bytes, cudaStream_t stream) {
  return call(cublasLtMatmul, "cublasLtMatmul", handle, matmul, alpha, a, a_layout, b, b_layout,
              beta, c, c_layout, d, d_layout, algorithm, workspace, workspace_bytes, stream);
}

}  // extern "C"
