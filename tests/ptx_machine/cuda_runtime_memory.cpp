// Of the stand-in for libcudart: memory.
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "runtime_state.h"

namespace lathe::ptx {
namespace {

bool on_device(const void* pointer, std::size_t bytes) {
  return machine().memory.contains(pointer, bytes);
}

bool on_host(const void* pointer, std::size_t bytes) {
  return !machine().memory.touches(pointer, bytes);
}

// Device memory is that of the current device: stricter than a GPU, where addresses know theirs.
bool ranges_fit(const void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  switch (kind) {
    case cudaMemcpyHostToDevice:
      return on_device(to, bytes) && on_host(from, bytes);
    case cudaMemcpyDeviceToHost:
      return on_device(from, bytes) && on_host(to, bytes);
    case cudaMemcpyDeviceToDevice:
      return on_device(to, bytes) && on_device(from, bytes);
    case cudaMemcpyHostToHost:
    case cudaMemcpyDefault:
      return true;
  }
  return false;
}

cudaError_t copy_now(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  RuntimeState& state = runtime();
  if (state.device().sticky_error != cudaSuccess) return state.device().sticky_error;
  if (bytes == 0) return cudaSuccess;
  if (!ranges_fit(to, from, bytes, kind)) {
    return state.fail(cudaErrorInvalidValue,
                      "copy of memory that is not of the named kind, or not all allocated");
  }
  const bool reads = on_device(from, bytes), writes = on_device(to, bytes);
  const cudaError_t raced = state.use(
      "cudaMemcpy", {{from, reads ? bytes : 0, Use::read}, {to, writes ? bytes : 0, Use::write}});
  if (raced == cudaSuccess) std::memmove(to, from, bytes);
  return raced;
}

bool is_pinned(const void* pointer, std::size_t bytes) {
  const auto& pinned = runtime().pinned;
  auto next = pinned.upper_bound(pointer);
  if (next == pinned.begin()) return false;
  const auto& [begin, size] = *std::prev(next);
  const auto offset =
      static_cast<std::size_t>(static_cast<const char*>(pointer) - static_cast<const char*>(begin));
  return offset <= size && bytes <= size - offset;
}

// As on a GPU: memory of the host that is not pinned is read within the call, and written within
// it, for which the call waits until the stream has come to the copy.
cudaError_t copy_async(Call& call, void* to, const void* from, std::size_t bytes,
                       cudaMemcpyKind kind, cudaStream_t handle) {
  Stream* stream = runtime().find_of_device(handle);
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;
  const auto copy = [=] { return copy_now(to, from, bytes, kind); };
  if (stream->captured) return submit(*stream, copy);
  if (kind == cudaMemcpyDeviceToHost && !is_pinned(to, bytes)) {
    call.wait([=] { return stream->is_idle(); });
    const cudaError_t error = submit(*stream, copy);
    learn_of(*stream);
    return error;
  }
  if (kind == cudaMemcpyHostToDevice && !stream->is_idle() && !is_pinned(from, bytes)) {
    const auto* begin = static_cast<const std::byte*>(from);
    return submit(*stream, [=, staged = std::vector<std::byte>(begin, begin + bytes)] {
      return copy_now(to, staged.data(), bytes, kind);
    });
  }
  return submit(*stream, copy);
}

cudaError_t copy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  Call call;
  if (this_thread().captures > 0) return runtime().refuse_in_capture("cudaMemcpy");
  Stream* stream = runtime().device().null_stream;
  heed_null_stream(*stream);
  call.wait([=] { return stream->is_idle(); });
  const cudaError_t error = submit(*stream, [=] { return copy_now(to, from, bytes, kind); });
  learn_of(*stream);
  return error;
}

cudaError_t set_now(void* to, int value, std::size_t bytes) {
  RuntimeState& state = runtime();
  if (state.device().sticky_error != cudaSuccess) return state.device().sticky_error;
  if (!on_device(to, bytes))
    return state.fail(cudaErrorInvalidValue, "fill of memory that is not all allocated");
  const cudaError_t raced = state.use("cudaMemset", {{to, bytes, Use::write}});
  if (raced == cudaSuccess) std::memset(to, value, bytes);
  return raced;
}

cudaError_t set(void* to, int value, std::size_t bytes, cudaStream_t handle) {
  const Call call;
  Stream* stream = runtime().find_of_device(handle);
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;
  return submit(*stream, [=] { return set_now(to, value, bytes); });
}

cudaError_t find_variable(const void* host, Variable& variable) {
  const Call call;
  RuntimeState& state = runtime();
  const auto symbol = state.symbols.find(host);
  if (symbol == state.symbols.end()) return state.finish(cudaErrorInvalidSymbol);
  try {
    variable = symbol->second.binary->module().variables.at(symbol->second.name);
  } catch (const std::exception& error) {
    return state.fail(cudaErrorInvalidSymbol, symbol->second.name + ": " + error.what());
  }
  return state.finish(cudaSuccess);
}

}  // namespace
}  // namespace lathe::ptx

using lathe::ptx::Call;
using lathe::ptx::kDeviceBytes;
using lathe::ptx::machine;
using lathe::ptx::runtime;
using lathe::ptx::this_thread;

extern "C" {

cudaError_t cudaMalloc(void** pointer, size_t bytes) {
  const Call call;
  auto& memory = machine().memory;
  *pointer = nullptr;
  if (this_thread().captures > 0) return runtime().refuse_in_capture("cudaMalloc");
  if (bytes == 0) return runtime().finish(cudaSuccess);
  if (bytes <= kDeviceBytes - memory.allocated_bytes()) *pointer = memory.allocate(bytes);
  return runtime().finish(*pointer == nullptr ? cudaErrorMemoryAllocation : cudaSuccess);
}

// Waits for the device, as on a GPU: work on the way may use the memory.
cudaError_t cudaFree(void* pointer) {
  Call call;
  const auto* allocation = machine().memory.near(reinterpret_cast<std::uint64_t>(pointer));
  if (allocation != nullptr) call.wait_for_device(allocation->device);
  const bool valid = pointer == nullptr || machine().memory.release(pointer);
  return runtime().finish(valid ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaMallocHost(void** pointer, size_t bytes) {
  const Call call;
  *pointer = std::malloc(bytes);
  if (*pointer != nullptr) runtime().pinned[*pointer] = bytes;
  return runtime().finish(*pointer == nullptr ? cudaErrorMemoryAllocation : cudaSuccess);
}

cudaError_t cudaHostAlloc(void** pointer, size_t bytes, unsigned) {
  return cudaMallocHost(pointer, bytes);
}

cudaError_t cudaFreeHost(void* pointer) {
  Call call;
  call.wait_for_device(this_thread().device);
  if (pointer != nullptr && runtime().pinned.erase(pointer) == 0)
    return runtime().finish(cudaErrorInvalidValue);
  std::free(pointer);
  return runtime().finish(cudaSuccess);
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  return lathe::ptx::copy(to, from, bytes, kind);
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  Call call;
  return lathe::ptx::copy_async(call, to, from, bytes, kind, stream);
}

cudaError_t cudaMemset(void* to, int value, size_t bytes) {
  return lathe::ptx::set(to, value, bytes, nullptr);
}

cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  return lathe::ptx::set(to, value, bytes, stream);
}

cudaError_t cudaGetSymbolAddress(void** pointer, const void* symbol) {
  lathe::ptx::Variable variable{};
  const cudaError_t error = lathe::ptx::find_variable(symbol, variable);
  *pointer = variable.memory;
  return error;
}

cudaError_t cudaMemcpyToSymbol(const void* symbol, const void* from, size_t bytes, size_t offset,
                               cudaMemcpyKind kind) {
  void* to = nullptr;
  const cudaError_t error = cudaGetSymbolAddress(&to, symbol);
  return error != cudaSuccess ? error
                              : cudaMemcpy(static_cast<char*>(to) + offset, from, bytes, kind);
}

cudaError_t cudaMemcpyFromSymbol(void* to, const void* symbol, size_t bytes, size_t offset,
                                 cudaMemcpyKind kind) {
  void* from = nullptr;
  const cudaError_t error = cudaGetSymbolAddress(&from, symbol);
  return error != cudaSuccess ? error
                              : cudaMemcpy(to, static_cast<char*>(from) + offset, bytes, kind);
}

cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total) {
  const Call call;
  *total = kDeviceBytes;
  *free_bytes = kDeviceBytes - machine().memory.allocated_bytes();
  return runtime().finish(cudaSuccess);
}

}  // extern "C"
