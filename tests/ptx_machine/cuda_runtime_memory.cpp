// The other half of the stand-in for libcudart: memory, streams, events and graphs. Everything
// happens at once and in order, so that streams and events have little to do.
#include <chrono>
#include <cstdlib>
#include <cstring>

#include "machine.h"
#include "runtime_state.h"

namespace lathe::ptx {
namespace {

constexpr std::size_t kDeviceBytes = std::size_t{8} << 30;

struct Event {
  std::chrono::steady_clock::time_point recorded{};
};

Event* to_event(cudaEvent_t event) {
  return reinterpret_cast<Event*>(event);
}

bool on_device(const void* pointer, std::size_t bytes) {
  return machine().memory.contains(pointer, bytes);
}

bool ranges_fit(const void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  switch (kind) {
    case cudaMemcpyHostToDevice:
      return on_device(to, bytes) && !on_device(from, bytes);
    case cudaMemcpyDeviceToHost:
      return on_device(from, bytes) && !on_device(to, bytes);
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
  if (state.sticky_error != cudaSuccess) return state.sticky_error;
  if (bytes == 0) return cudaSuccess;
  if (!ranges_fit(to, from, bytes, kind)) {
    return state.fail(cudaErrorInvalidValue,
                      "copy of memory that is not of the named kind, or not all allocated");
  }
  std::memmove(to, from, bytes);
  return cudaSuccess;
}

cudaError_t copy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  return runtime().submit([=] { return copy_now(to, from, bytes, kind); });
}

cudaError_t set_now(void* to, int value, std::size_t bytes) {
  RuntimeState& state = runtime();
  if (state.sticky_error != cudaSuccess) return state.sticky_error;
  if (!on_device(to, bytes))
    return state.fail(cudaErrorInvalidValue, "fill of memory that is not all allocated");
  std::memset(to, value, bytes);
  return cudaSuccess;
}

cudaError_t set(void* to, int value, std::size_t bytes) {
  return runtime().submit([=] { return set_now(to, value, bytes); });
}

// What cudaGraph_t and cudaGraphExec_t point to.
using Graph = std::vector<Work>;

template <class Handle>
Graph* to_graph(Handle handle) {
  return reinterpret_cast<Graph*>(handle);
}

cudaError_t find_variable(const void* host, Variable& variable) {
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

using lathe::ptx::machine;
using lathe::ptx::runtime;

extern "C" {

cudaError_t cudaMalloc(void** pointer, size_t bytes) {
  auto& memory = machine().memory;
  *pointer = nullptr;
  if (runtime().captured) return runtime().refuse_in_capture("cudaMalloc");
  if (bytes == 0) return runtime().finish(cudaSuccess);
  if (bytes <= lathe::ptx::kDeviceBytes - memory.allocated_bytes())
    *pointer = memory.allocate(bytes);
  return runtime().finish(*pointer == nullptr ? cudaErrorMemoryAllocation : cudaSuccess);
}

cudaError_t cudaFree(void* pointer) {
  const bool valid = pointer == nullptr || machine().memory.release(pointer);
  return runtime().finish(valid ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaMallocAsync(void** pointer, size_t bytes, cudaStream_t) {
  return cudaMalloc(pointer, bytes);
}

cudaError_t cudaFreeAsync(void* pointer, cudaStream_t) {
  return cudaFree(pointer);
}

cudaError_t cudaMallocHost(void** pointer, size_t bytes) {
  *pointer = std::malloc(bytes);
  return runtime().finish(*pointer == nullptr ? cudaErrorMemoryAllocation : cudaSuccess);
}

cudaError_t cudaHostAlloc(void** pointer, size_t bytes, unsigned) {
  return cudaMallocHost(pointer, bytes);
}

cudaError_t cudaFreeHost(void* pointer) {
  std::free(pointer);
  return runtime().finish(cudaSuccess);
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  return lathe::ptx::copy(to, from, bytes, kind);
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t) {
  return lathe::ptx::copy(to, from, bytes, kind);
}

cudaError_t cudaMemset(void* to, int value, size_t bytes) {
  return lathe::ptx::set(to, value, bytes);
}

cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t) {
  return lathe::ptx::set(to, value, bytes);
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
  *total = lathe::ptx::kDeviceBytes;
  *free_bytes = lathe::ptx::kDeviceBytes - machine().memory.allocated_bytes();
  return runtime().finish(cudaSuccess);
}

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  *stream = reinterpret_cast<cudaStream_t>(new char);
  return runtime().finish(cudaSuccess);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  return cudaStreamCreate(stream);
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned, int) {
  return cudaStreamCreate(stream);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete reinterpret_cast<char*>(stream);
  return runtime().finish(cudaSuccess);
}

cudaError_t cudaStreamSynchronize(cudaStream_t) {
  return runtime().refuse_in_capture("cudaStreamSynchronize");
}

cudaError_t cudaStreamQuery(cudaStream_t) {
  return runtime().finish(cudaSuccess);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) {
  return runtime().finish(cudaSuccess);
}

cudaError_t cudaEventCreate(cudaEvent_t* event) {
  *event = reinterpret_cast<cudaEvent_t>(new lathe::ptx::Event);
  return runtime().finish(cudaSuccess);
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  return cudaEventCreate(event);
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete lathe::ptx::to_event(event);
  return runtime().finish(cudaSuccess);
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t) {
  lathe::ptx::to_event(event)->recorded = std::chrono::steady_clock::now();
  return runtime().finish(cudaSuccess);
}

cudaError_t cudaEventSynchronize(cudaEvent_t) {
  return runtime().refuse_in_capture("cudaEventSynchronize");
}

cudaError_t cudaEventQuery(cudaEvent_t) {
  return runtime().finish(cudaSuccess);
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  const auto elapsed = lathe::ptx::to_event(end)->recorded - lathe::ptx::to_event(begin)->recorded;
  *milliseconds = std::chrono::duration<float, std::milli>(elapsed).count();
  return runtime().finish(cudaSuccess);
}

// Graphs: a capture notes what would have been done, a launch does it.
cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode) {
  if (runtime().captured) return runtime().refuse_in_capture("cudaStreamBeginCapture");
  runtime().captured = std::make_unique<lathe::ptx::Graph>();
  return runtime().finish(cudaSuccess);
}

cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t* graph) {
  auto captured = std::move(runtime().captured);
  *graph = reinterpret_cast<cudaGraph_t>(captured.release());
  return runtime().finish(*graph == nullptr ? cudaErrorInvalidValue : cudaSuccess);
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph,
                                 unsigned long long) {
  auto* copied = new lathe::ptx::Graph(*lathe::ptx::to_graph(graph));
  *executable = reinterpret_cast<cudaGraphExec_t>(copied);
  return runtime().finish(cudaSuccess);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t) {
  for (const lathe::ptx::Work& work : *lathe::ptx::to_graph(executable)) {
    const cudaError_t error = work();
    if (error != cudaSuccess) return error;
  }
  return runtime().finish(cudaSuccess);
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete lathe::ptx::to_graph(graph);
  return runtime().finish(cudaSuccess);
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete lathe::ptx::to_graph(executable);
  return runtime().finish(cudaSuccess);
}

}  // extern "C"
