#include "cuda_backend.h"

#include <cuda_profiler_api.h>
#include <fmt/format.h>
#include <nvtx3/nvToolsExt.h>

#include "lathe/error.h"
#include "launch.h"
#include "recordings.h"

namespace lathe {
namespace cuda {

void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  throw Error(ExitCode::internal, fmt::format("[{}] {}", what, cudaGetErrorString(status)));
}

void check_launch(const char* kernel) {
  check(cudaGetLastError(), kernel);
}

int current_gpu() {
  int index = 0;
  check(cudaGetDevice(&index), "cudaGetDevice");
  return index;
}

Buffer take_memory(std::int64_t bytes) {
  void* memory = nullptr;
  if (cudaMalloc(&memory, static_cast<std::size_t>(std::max<std::int64_t>(bytes, 1))) !=
      cudaSuccess) {
    std::size_t left = 0, total = 0;
    cudaGetLastError();  // running out of memory is no lasting error
    check(cudaMemGetInfo(&left, &total), "cudaMemGetInfo");
    throw Error(ExitCode::out_of_memory,
                fmt::format("cannot allocate {} bytes of GPU memory, {} are free: use a smaller "
                            "--micro-batch, --seq-len or model, or --recompute block",
                            bytes, left));
  }
  return {static_cast<std::byte*>(memory), [](std::byte* freed) { cudaFree(freed); }};
}

}  // namespace cuda

namespace {

constexpr int kLeastMajor = 8;  // compute capability: bf16 on tensor cores, asynchronous copies
constexpr std::int64_t kWorkspaceBytes = std::int64_t{32} << 20;  // NVIDIA's advice for Hopper

cudaDeviceProp properties_of_gpu() {
  cudaDeviceProp properties = {};
  cuda::check(cudaGetDeviceProperties(&properties, cuda::current_gpu()), "cudaGetDeviceProperties");
  return properties;
}

// Errors: usage, when there is no GPU.
cuda::OwnedStream open_gpu() {
  const std::string reason = why_no_gpu();
  if (!reason.empty()) {
    throw Error(ExitCode::usage, fmt::format("--device cuda: {}; must be auto or cpu", reason));
  }
  return cuda::make_stream();
}

}  // namespace

bool built_with_cuda() {
  return true;
}

std::string why_no_gpu() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaErrorInsufficientDriver) {
    return fmt::format("no GPU: no NVIDIA driver, or one too old for CUDA {}.{}",
                       CUDART_VERSION / 1000, CUDART_VERSION / 10 % 100);
  }
  if (status != cudaSuccess) return fmt::format("no GPU: {}", cudaGetErrorString(status));
  if (count == 0) return "no GPU: the driver lists none";
  const cudaDeviceProp properties = properties_of_gpu();
  if (properties.major < kLeastMajor) {
    return fmt::format("{} has compute capability {}.{}, at least {}.0 is needed", properties.name,
                       properties.major, properties.minor, kLeastMajor);
  }
  if (!cuda::has_image()) {
    return fmt::format("this build has no code for {} of compute capability {}.{}", properties.name,
                       properties.major, properties.minor);
  }
  return "";
}

int gpu_count() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

void use_gpu(int index) {
  cuda::check(cudaSetDevice(index), "cudaSetDevice");
}

std::unique_ptr<Backend> make_cuda_backend(const CudaOptions& options) {
  return std::make_unique<CudaBackend>(options);
}

CudaBackend::CudaBackend(const CudaOptions& options)
    : options_(options),
      stream_(open_gpu()),
      gemms_(stream(), {.tf32 = options.tf32, .tuning = options.gemm_tuning},
             cuda::take_memory(kWorkspaceBytes), kWorkspaceBytes) {}

// Work in flight uses memory that is about to be freed.
CudaBackend::~CudaBackend() {
  try {
    synchronize();
  } catch (const Error&) {
    cudaStreamSynchronize(stream());
  }
}

std::string CudaBackend::description() const {
  return fmt::format("cuda, {}", properties_of_gpu().name);
}

Buffer CudaBackend::allocate(std::int64_t bytes) {
  Buffer buffer = cuda::take_memory(bytes);
  cuda::check(cudaMemsetAsync(buffer.get(), 0, static_cast<std::size_t>(bytes), stream()),
              "cudaMemsetAsync");
  return buffer;
}

void CudaBackend::upload(const Tensor& to, const void* from) {
  uploads_.upload(to.data(), from, static_cast<std::size_t>(to.bytes()), stream());
}

// The copy itself may wait for the stream, as the host's memory is any.
void CudaBackend::download(void* to, const Tensor& from) {
  before_wait_();
  const auto bytes = static_cast<std::size_t>(from.bytes());
  cuda::check(cudaMemcpyAsync(to, from.data(), bytes, cudaMemcpyDeviceToHost, stream()),
              "download");
  synchronize();
}

void CudaBackend::synchronize() {
  before_wait_();
  cuda::check(cudaStreamSynchronize(stream()), "cudaStreamSynchronize");
}

std::optional<DeviceMemory> CudaBackend::memory() const {
  std::size_t left = 0, total = 0;
  cuda::check(cudaMemGetInfo(&left, &total), "cudaMemGetInfo");
  return DeviceMemory{.free = static_cast<std::int64_t>(left),
                      .total = static_cast<std::int64_t>(total)};
}

std::string CudaBackend::plans() const {
  return gemms_.plans();
}

void CudaBackend::restore_plans(const std::string& plans) {
  gemms_.restore_plans(plans);
}

std::vector<std::string> CudaBackend::take_messages() {
  return gemms_.take_messages();
}

void CudaBackend::set_profiler(bool on) {
  cuda::check(on ? cudaProfilerStart() : cudaProfilerStop(), "cudaProfilerStart");
}

void CudaBackend::begin_range(const char* name) {
  nvtxRangePushA(name);
}

void CudaBackend::end_range() {
  nvtxRangePop();
}

std::unique_ptr<Recorder> CudaBackend::make_recorder() {
  return std::make_unique<cuda::Recordings>(*this, options_.graph);
}

float* CudaBackend::scratch(std::int64_t floats) {
  if (floats > scratch_floats_) {
    synchronize();  // earlier operations may still use the old memory
    scratch_ = cuda::take_memory(floats * static_cast<std::int64_t>(sizeof(float)));
    scratch_floats_ = floats;
  }
  return reinterpret_cast<float*>(scratch_.get());
}

}  // namespace lathe
