// Stands in for libcudart: registration and launch of kernels, errors, and what a program asks of
// the device. A program made by nvcc links with it and runs its embedded PTX on the machine.
#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "machine.h"
#include "runtime_state.h"

namespace lathe::ptx {
namespace {

constexpr std::size_t kDefaultShared = 48 * 1024, kOptInShared = 227 * 1024;
constexpr int kProcessors = 4;  // few, so that small tests give each several blocks

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

// Runs at once: a kernel that fails is reported by its own launch, and by every call that follows.
cudaError_t start(const void* function, const LaunchConfiguration& configuration,
                  void** arguments) {
  RuntimeState& state = runtime();
  if (state.sticky_error != cudaSuccess) return state.sticky_error;
  const auto symbol = state.symbols.find(function);
  if (symbol == state.symbols.end()) return state.finish(cudaErrorInvalidDeviceFunction);
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
  if (shape.dynamic_shared_bytes > symbol->second.dynamic_shared_limit) {
    return state.fail(
        cudaErrorInvalidValue,
        fmt::format("{}: {} bytes of dynamic shared memory, allowed are {}: cudaFuncSetAttribute",
                    name, shape.dynamic_shared_bytes, symbol->second.dynamic_shared_limit));
  }
  return state.submit([kernel, shape, parameters = pack_parameters(*kernel, arguments)] {
    try {
      launch(*kernel, shape, parameters.data());
    } catch (const Error& error) {
      runtime().sticky_error = cudaErrorLaunchFailure;
      return runtime().fail(cudaErrorLaunchFailure, error.what());
    }
    return cudaSuccess;
  });
}

cudaError_t refuse_unless(bool valid, const char* detail) {
  return valid ? runtime().finish(cudaSuccess) : runtime().fail(cudaErrorInvalidValue, detail);
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
    {cudaErrorInvalidPtx, "cudaErrorInvalidPtx", "a PTX JIT compilation failed"},
    {cudaErrorInvalidSymbol, "cudaErrorInvalidSymbol", "invalid device symbol"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
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

// -1 when the attribute is not known here: a guess would be worse.
int device_attribute(cudaDeviceAttr attribute) {
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
      return 1024;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      return 2048;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      return static_cast<int>(kDefaultShared);
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      return static_cast<int>(kOptInShared);
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      return static_cast<int>(kOptInShared) + 1024;
    case cudaDevAttrWarpSize:
      return kWarpSize;
    case cudaDevAttrMultiProcessorCount:
      return kProcessors;
    case cudaDevAttrL2CacheSize:
      return 50 << 20;
    case cudaDevAttrComputeCapabilityMajor:
      return 9;
    case cudaDevAttrComputeCapabilityMinor:
    case cudaDevAttrCooperativeLaunch:
    case cudaDevAttrIntegrated:
    case cudaDevAttrMemoryPoolsSupported:
      return 0;
    default:
      return -1;
  }
}

template <class Enum>
void read_order(Enum& order, const std::string& word) {
  if (word == "forward") order = Order::forward;
  if (word == "reverse") order = Order::reverse;
  if (word == "shuffled") order = Order::shuffled;
}

}  // namespace

RuntimeState::RuntimeState() {
  Options& options = machine().options;
  if (const char* order = std::getenv("LATHE_PTX_ORDER")) read_order(options.order, order);
  if (const char* seed = std::getenv("LATHE_PTX_SEED"))
    options.seed = std::strtoull(seed, nullptr, 10);
  if (const char* races = std::getenv("LATHE_PTX_RACES"))
    options.races = std::strcmp(races, "0") != 0;
}

cudaError_t RuntimeState::finish(cudaError_t error) {
  if (sticky_error != cudaSuccess) return sticky_error;
  if (error != cudaSuccess) {
    last_error = error;
    details.erase(error);
  }
  return error;
}

cudaError_t RuntimeState::fail(cudaError_t error, const std::string& detail) {
  last_error = error;
  details[error] = detail;
  return error;
}

cudaError_t RuntimeState::submit(Work work) {
  if (!captured) return work();
  captured->push_back(std::move(work));
  return cudaSuccess;
}

cudaError_t RuntimeState::refuse_in_capture(const char* call) {
  if (!captured) return finish(cudaSuccess);
  return fail(cudaErrorStreamCaptureUnsupported, fmt::format("{} during a capture", call));
}

RuntimeState& runtime() {
  static RuntimeState state;
  return state;
}

}  // namespace lathe::ptx

using lathe::ptx::runtime;

// What nvcc's host code calls.
extern "C" {

void** __cudaRegisterFatBinary(void* wrapper) {
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
  runtime().symbols[host] = {reinterpret_cast<lathe::ptx::FatBinary*>(binary), name};
}

void __cudaRegisterVar(void** binary, char* host, char*, const char* name, int, size_t, int, int) {
  runtime().symbols[host] = {reinterpret_cast<lathe::ptx::FatBinary*>(binary), name};
}

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, CUstream_st* stream) {
  runtime().pushed.push_back({grid, block, shared, stream});
  return 0;
}

cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, size_t* shared, void* stream) {
  const lathe::ptx::LaunchConfiguration configuration = runtime().pushed.back();
  runtime().pushed.pop_back();
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
  return lathe::ptx::start(kernel, {grid, block, shared, stream}, arguments);
}

cudaError_t cudaLaunchKernel(const void* function, dim3 grid, dim3 block, void** arguments,
                             size_t shared, cudaStream_t stream) {
  return lathe::ptx::start(function, {grid, block, shared, stream}, arguments);
}

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* function,
                                void** arguments) {
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
  auto& symbols = runtime().symbols;
  const auto symbol = symbols.find(function);
  if (symbol == symbols.end()) return runtime().finish(cudaErrorInvalidDeviceFunction);
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize)
    return runtime().finish(cudaSuccess);
  const bool valid = value >= 0 && static_cast<size_t>(value) <= lathe::ptx::kOptInShared;
  if (valid) symbol->second.dynamic_shared_limit = static_cast<size_t>(value);
  return lathe::ptx::refuse_unless(valid, "more dynamic shared memory than a block can have");
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* function) {
  const auto& symbols = runtime().symbols;
  *attributes = {};
  attributes->maxThreadsPerBlock = 1024;
  return runtime().finish(symbols.contains(function) ? cudaSuccess
                                                     : cudaErrorInvalidDeviceFunction);
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void*, int threads,
                                                          size_t) {
  *blocks = threads > 0 ? 2048 / threads : 0;
  return lathe::ptx::refuse_unless(threads > 0, "a block without threads");
}

// Errors. One of a kernel stays until cudaDeviceReset, as a lost context does.
cudaError_t cudaGetLastError() {
  const cudaError_t error = cudaPeekAtLastError();
  runtime().last_error = cudaSuccess;
  return error;
}

cudaError_t cudaPeekAtLastError() {
  const auto& state = runtime();
  return state.sticky_error != cudaSuccess ? state.sticky_error : state.last_error;
}

const char* cudaGetErrorString(cudaError_t error) {
  const auto& details = runtime().details;
  if (const auto found = details.find(error); found != details.end()) return found->second.c_str();
  const auto* known = lathe::ptx::find_error(error);
  return known == nullptr ? "an error that is not known here" : known->text;
}

const char* cudaGetErrorName(cudaError_t error) {
  const auto* known = lathe::ptx::find_error(error);
  return known == nullptr ? "unknown" : known->name;
}

cudaError_t cudaDeviceReset() {
  runtime().last_error = runtime().sticky_error = cudaSuccess;
  return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() {
  return runtime().refuse_in_capture("cudaDeviceSynchronize");
}

// The device.
cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  return runtime().finish(device == 0 ? cudaSuccess : cudaErrorInvalidDevice);
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  if (device != 0) return runtime().finish(cudaErrorInvalidDevice);
  const int known = lathe::ptx::device_attribute(attribute);
  if (known >= 0) *value = known;
  return lathe::ptx::refuse_unless(known >= 0, "a device attribute that is not known here");
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (device != 0) return runtime().finish(cudaErrorInvalidDevice);
  const auto attribute = [](cudaDeviceAttr a) { return lathe::ptx::device_attribute(a); };
  *properties = {};
  std::snprintf(properties->name, sizeof(properties->name), "PTX machine");
  properties->major = attribute(cudaDevAttrComputeCapabilityMajor);
  properties->minor = attribute(cudaDevAttrComputeCapabilityMinor);
  properties->warpSize = attribute(cudaDevAttrWarpSize);
  properties->multiProcessorCount = attribute(cudaDevAttrMultiProcessorCount);
  properties->maxThreadsPerBlock = attribute(cudaDevAttrMaxThreadsPerBlock);
  properties->maxThreadsPerMultiProcessor = attribute(cudaDevAttrMaxThreadsPerMultiProcessor);
  properties->l2CacheSize = attribute(cudaDevAttrL2CacheSize);
  properties->sharedMemPerBlock = lathe::ptx::kDefaultShared;
  properties->sharedMemPerBlockOptin = lathe::ptx::kOptInShared;
  size_t free_bytes = 0;
  return cudaMemGetInfo(&free_bytes, &properties->totalGlobalMem);
}

cudaError_t cudaProfilerStart() {
  return runtime().refuse_in_capture("cudaProfilerStart");
}

cudaError_t cudaProfilerStop() {
  return runtime().refuse_in_capture("cudaProfilerStop");
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

}  // extern "C"
