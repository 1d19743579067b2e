// Stands in for libcudart: registration and launch of kernels, and errors. A program made by nvcc
// links with it and runs its embedded PTX on the machine.
#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "machine.h"
#include "runtime_state.h"

namespace lathe::ptx {
namespace {

Dim to_dim(dim3 dim) {
  return {dim.x, dim.y, dim.z};
}

// Kernel parameters as they lie in memory.
std::vector<std::uint8_t> pack_parameters(const Kernel& kernel, void** arguments) {
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(kernel.parameter_bytes));
  for (std::size_t i = 0; i < kernel.parameters.size(); ++i) {
    const Parameter& parameter = kernel.parameters[i];
    std::memcpy(bytes.data() + parameter.offset, arguments[i],
                static_cast<std::size_t>(parameter.bytes));
  }
  return bytes;
}

std::size_t dynamic_shared_limit(const RegisteredSymbol& symbol) {
  const auto found = symbol.dynamic_shared_limits.find(machine().device);
  return found == symbol.dynamic_shared_limits.end() ? kDefaultShared : found->second;
}

// A kernel that fails loses the device, which every call on it tells from then on.
cudaError_t run(const Kernel& kernel, const LaunchShape& shape, const std::uint8_t* parameters) {
  Device& device = runtime().device();
  if (device.sticky_error != cudaSuccess) return device.sticky_error;
  try {
    launch(kernel, shape, parameters);
  } catch (const Error& error) {
    runtime().lose_device(error.what());
  }
  return device.sticky_error;
}

// The kernel runs within its launch when nothing is before it on its stream.
cudaError_t start(const void* function, const LaunchConfiguration& configuration,
                  void** arguments) {
  RuntimeState& state = runtime();
  if (state.device().sticky_error != cudaSuccess) return state.device().sticky_error;
  const auto symbol = state.symbols.find(function);
  if (symbol == state.symbols.end()) return state.finish(cudaErrorInvalidDeviceFunction);
  Stream* stream = state.find_of_device(configuration.stream);
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;
  const std::string& name = symbol->second.name;
  const Kernel* kernel = nullptr;
  try {
    kernel = &symbol->second.binary->module().kernels.at(name);
  } catch (const std::exception& error) {
    return state.fail(cudaErrorInvalidPtx, fmt::format("{}: {}", name, error.what()));
  }
  const LaunchShape shape{to_dim(configuration.grid), to_dim(configuration.block),
                          configuration.shared};
  try {
    check_launch(*kernel, shape);
  } catch (const Error& error) {
    return state.fail(cudaErrorInvalidConfiguration, error.what());
  }
  const std::size_t limit = dynamic_shared_limit(symbol->second);
  if (shape.dynamic_shared_bytes > limit) {
    return state.fail(
        cudaErrorInvalidValue,
        fmt::format("{}: {} bytes of dynamic shared memory, allowed are {}: cudaFuncSetAttribute",
                    name, shape.dynamic_shared_bytes, limit));
  }
  return submit(*stream, [kernel, shape, parameters = pack_parameters(*kernel, arguments)] {
    return run(*kernel, shape, parameters.data());
  });
}

struct ErrorText {
  cudaError_t error;
  const char *name, *text;
};
constexpr ErrorText kErrorTexts[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration",
     "invalid configuration argument"},
    {cudaErrorInvalidDeviceFunction, "cudaErrorInvalidDeviceFunction", "invalid device function"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidPtx, "cudaErrorInvalidPtx", "a PTX JIT compilation failed"},
    {cudaErrorInvalidSymbol, "cudaErrorInvalidSymbol", "invalid device symbol"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorNotSupported, "cudaErrorNotSupported", "operation not supported"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
     "operation not permitted when stream is capturing"},
};

const ErrorText* find_error(cudaError_t error) {
  for (const ErrorText& known : kErrorTexts) {
    if (known.error == error) return &known;
  }
  return nullptr;
}

}  // namespace
}  // namespace lathe::ptx

using lathe::ptx::Call;
using lathe::ptx::machine;
using lathe::ptx::runtime;
using lathe::ptx::this_thread;

// What nvcc's host code calls.
extern "C" {

void** __cudaRegisterFatBinary(void* wrapper) {
  const Call call;
  const void* data = nullptr;
  std::memcpy(&data, static_cast<const char*>(wrapper) + 8, sizeof(data));
  auto& binaries = runtime().binaries;
  try {
    binaries.push_back(std::make_unique<lathe::ptx::FatBinary>(data));
  } catch (const lathe::ptx::Error& error) {  // before main, where nobody catches
    std::fprintf(stderr, "%s\n", error.what());
    std::exit(1);
  }
  return reinterpret_cast<void**>(binaries.back().get());
}

void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}

char __cudaInitModule(void**) {
  return 1;
}

void __cudaRegisterFunction(void** binary, const char* host, char*, const char* name, int, uint3*,
                            uint3*, dim3*, dim3*, int*) {
  const Call call;
  runtime().symbols[host] = {reinterpret_cast<lathe::ptx::FatBinary*>(binary), name, {}};
}

void __cudaRegisterVar(void** binary, char* host, char*, const char* name, int, size_t, int, int) {
  const Call call;
  runtime().symbols[host] = {reinterpret_cast<lathe::ptx::FatBinary*>(binary), name, {}};
}

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, CUstream_st* stream) {
  this_thread().pushed.push_back({grid, block, shared, stream});
  return 0;
}

cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, size_t* shared, void* stream) {
  const lathe::ptx::LaunchConfiguration configuration = this_thread().pushed.back();
  this_thread().pushed.pop_back();
  *grid = configuration.grid;
  *block = configuration.block;
  *shared = configuration.shared;
  *static_cast<cudaStream_t*>(stream) = configuration.stream;
  return cudaSuccess;
}

cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* function) {
  *kernel = reinterpret_cast<cudaKernel_t>(const_cast<void*>(function));
  return cudaSuccess;
}

cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void** arguments,
                               size_t shared, cudaStream_t stream) {
  const Call call;
  return lathe::ptx::start(kernel, {grid, block, shared, stream}, arguments);
}

cudaError_t cudaLaunchKernel(const void* function, dim3 grid, dim3 block, void** arguments,
                             size_t shared, cudaStream_t stream) {
  const Call call;
  return lathe::ptx::start(function, {grid, block, shared, stream}, arguments);
}

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* function,
                                void** arguments) {
  const Call call;
  for (unsigned i = 0; i < config->numAttrs; ++i) {
    // Overlap with the kernel before is a matter of speed; whatever else there is is not.
    if (config->attrs[i].id != cudaLaunchAttributeProgrammaticStreamSerialization)
      return runtime().fail(cudaErrorNotSupported, "a launch attribute that is not known here");
  }
  return lathe::ptx::start(
      function, {config->gridDim, config->blockDim, config->dynamicSmemBytes, config->stream},
      arguments);
}

cudaError_t cudaFuncSetAttribute(const void* function, cudaFuncAttribute attribute, int value) {
  const Call call;
  auto& symbols = runtime().symbols;
  const auto symbol = symbols.find(function);
  if (symbol == symbols.end()) return runtime().finish(cudaErrorInvalidDeviceFunction);
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize)
    return runtime().finish(cudaSuccess);
  const bool valid = value >= 0 && static_cast<size_t>(value) <= lathe::ptx::kOptInShared;
  if (valid) symbol->second.dynamic_shared_limits[machine().device] = static_cast<size_t>(value);
  return runtime().refuse_unless(valid, "more dynamic shared memory than a block can have");
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* function) {
  const Call call;
  const auto& symbols = runtime().symbols;
  *attributes = {};
  attributes->maxThreadsPerBlock = 1024;
  return runtime().finish(symbols.contains(function) ? cudaSuccess
                                                     : cudaErrorInvalidDeviceFunction);
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void*, int threads,
                                                          size_t) {
  const Call call;
  *blocks = threads > 0 ? 2048 / threads : 0;
  return runtime().refuse_unless(threads > 0, "a block without threads");
}

// Errors. One of a kernel stays until cudaDeviceReset, as a lost context does.
cudaError_t cudaGetLastError() {
  const cudaError_t error = cudaPeekAtLastError();
  this_thread().last_error = cudaSuccess;
  return error;
}

cudaError_t cudaPeekAtLastError() {
  const Call call;
  const cudaError_t sticky = runtime().device().sticky_error;
  return sticky != cudaSuccess ? sticky : this_thread().last_error;
}

const char* cudaGetErrorString(cudaError_t error) {
  const Call call;
  const auto& device = runtime().device();
  if (error != cudaSuccess && device.sticky_error == error) return device.sticky_detail.c_str();
  const auto& details = this_thread().details;
  if (const auto found = details.find(error); found != details.end()) return found->second.c_str();
  const auto* known = lathe::ptx::find_error(error);
  return known == nullptr ? "an error that is not known here" : known->text;
}

const char* cudaGetErrorName(cudaError_t error) {
  const auto* known = lathe::ptx::find_error(error);
  return known == nullptr ? "unknown" : known->name;
}

}  // extern "C"
