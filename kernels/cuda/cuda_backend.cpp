#include "cuda_backend.h"

#include <fmt/format.h>

#include "lathe/error.h"
#include "launch.h"

namespace lathe {
namespace cuda {

void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  throw Error(ExitCode::internal, fmt::format("[{}] {}", what, cudaGetErrorString(status)));
}

void check_launch(const char* kernel) {
  check(cudaGetLastError(), kernel);
}

}  // namespace cuda

CudaBackend::CudaBackend(int device) : device_(device) {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess || device >= count) {
    throw Error(ExitCode::usage, fmt::format("--device cuda: no GPU: {}; must be auto or cpu",
                                             status == cudaSuccess ? "the driver lists none"
                                                                   : cudaGetErrorString(status)));
  }
  cuda::check(cudaSetDevice(device), "cudaSetDevice");
  cudaStream_t stream = nullptr;
  cuda::check(cudaStreamCreate(&stream), "cudaStreamCreate");
  stream_.reset(stream);
}

CudaBackend::~CudaBackend() = default;

std::string CudaBackend::description() const {
  cudaDeviceProp properties = {};
  cuda::check(cudaGetDeviceProperties(&properties, device_), "cudaGetDeviceProperties");
  return fmt::format("cuda, {}", properties.name);
}

Buffer CudaBackend::allocate(std::int64_t bytes) {
  void* memory = nullptr;
  const auto size = static_cast<std::size_t>(std::max<std::int64_t>(bytes, 1));
  if (cudaMalloc(&memory, size) != cudaSuccess) {
    std::size_t left = 0, total = 0;
    cudaGetLastError();  // running out of memory is no lasting error
    cuda::check(cudaMemGetInfo(&left, &total), "cudaMemGetInfo");
    throw Error(ExitCode::out_of_memory,
                fmt::format("cannot allocate {} bytes of GPU memory, {} are free: use a smaller "
                            "--micro-batch, --seq-len or model, or --recompute block",
                            bytes, left));
  }
  Buffer buffer(static_cast<std::byte*>(memory), [](std::byte* freed) { cudaFree(freed); });
  cuda::check(cudaMemsetAsync(memory, 0, size, stream()), "cudaMemsetAsync");
  return buffer;
}

void CudaBackend::upload(const Tensor& to, const void* from) {
  const auto bytes = static_cast<std::size_t>(to.bytes());
  cuda::check(cudaMemcpyAsync(to.data(), from, bytes, cudaMemcpyHostToDevice, stream()), "upload");
  synchronize();  // the caller may reuse `from`
}

void CudaBackend::download(void* to, const Tensor& from) {
  const auto bytes = static_cast<std::size_t>(from.bytes());
  cuda::check(cudaMemcpyAsync(to, from.data(), bytes, cudaMemcpyDeviceToHost, stream()),
              "download");
  synchronize();
}

void CudaBackend::synchronize() {
  cuda::check(cudaStreamSynchronize(stream()), "cudaStreamSynchronize");
}

float* CudaBackend::scratch(std::int64_t floats) {
  if (floats > scratch_floats_) {
    synchronize();  // earlier operations may still use the old memory
    scratch_ = allocate(floats * static_cast<std::int64_t>(sizeof(float)));
    scratch_floats_ = floats;
  }
  return reinterpret_cast<float*>(scratch_.get());
}

}  // namespace lathe
