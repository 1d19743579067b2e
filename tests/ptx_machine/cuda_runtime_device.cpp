// Of the stand-in for libcudart: what a program asks of its devices.
#include <cstdio>

#include "runtime_state.h"

namespace lathe::ptx {
namespace {

constexpr int kProcessors = 4;  // few, so that small tests give each several blocks

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

bool exists(int device) {
  return device >= 0 && static_cast<std::size_t>(device) < runtime().visible.size();
}

}  // namespace
}  // namespace lathe::ptx

using lathe::ptx::Call;
using lathe::ptx::runtime;
using lathe::ptx::this_thread;

extern "C" {

cudaError_t cudaGetDeviceCount(int* count) {
  const Call call;
  *count = static_cast<int>(runtime().visible.size());
  return runtime().finish(*count == 0 ? cudaErrorNoDevice : cudaSuccess);
}

cudaError_t cudaGetDevice(int* device) {
  *device = this_thread().device;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  const Call call;
  if (!lathe::ptx::exists(device)) return runtime().finish(cudaErrorInvalidDevice);
  this_thread().device = lathe::ptx::machine().device = device;
  return runtime().finish(cudaSuccess);
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  const Call call;
  if (!lathe::ptx::exists(device)) return runtime().finish(cudaErrorInvalidDevice);
  const int known = lathe::ptx::device_attribute(attribute);
  if (known >= 0) *value = known;
  return runtime().refuse_unless(known >= 0, "a device attribute that is not known here");
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  const Call call;
  if (!lathe::ptx::exists(device)) return runtime().finish(cudaErrorInvalidDevice);
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
  properties->totalGlobalMem = lathe::ptx::kDeviceBytes;
  properties->pciBusID = 1 + runtime().visible[static_cast<std::size_t>(device)];
  return runtime().finish(cudaSuccess);
}

// Of the current device: its streams and events stay, its errors go.
cudaError_t cudaDeviceReset() {
  const Call call;
  this_thread().last_error = runtime().device().sticky_error = cudaSuccess;
  return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() {
  Call call;
  if (this_thread().captures > 0) return runtime().refuse_in_capture("cudaDeviceSynchronize");
  call.wait_for_device(this_thread().device);
  return runtime().finish(cudaSuccess);
}

cudaError_t cudaProfilerStart() {
  const Call call;
  return runtime().refuse_in_capture("cudaProfilerStart");
}

cudaError_t cudaProfilerStop() {
  const Call call;
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
