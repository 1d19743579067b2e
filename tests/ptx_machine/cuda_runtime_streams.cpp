// Of the stand-in for libcudart: streams, events and graphs.
#include "runtime_state.h"

namespace lathe::ptx {
namespace {

cudaError_t make_stream(cudaStream_t* handle, unsigned flags) {
  const Call call;
  *handle = reinterpret_cast<cudaStream_t>(
      &runtime().add_stream(machine().device, (flags & cudaStreamNonBlocking) == 0));
  return runtime().finish(cudaSuccess);
}

cudaError_t make_event(cudaEvent_t* handle) {
  const Call call;
  auto event = std::make_unique<Event>();
  event->device = machine().device;
  *handle = reinterpret_cast<cudaEvent_t>(event.get());
  runtime().events.emplace(*handle, std::move(event));
  return runtime().finish(cudaSuccess);
}

bool is_done(const Event& event) {
  return event.last == nullptr || event.last->is_done;
}

// In a capture only what is declared to be of outside is known here: a record or a wait of each
// launch.
cudaError_t refuse_event_in_capture() {
  return runtime().fail(cudaErrorNotSupported,
                        "an event of a capture that is not external is not known here");
}

cudaError_t record_event(cudaEvent_t event_handle, cudaStream_t stream_handle, unsigned flags) {
  const Call call;
  RuntimeState& state = runtime();
  Event* event = state.find(event_handle);
  Stream* stream = event == nullptr ? nullptr : state.find_of_device(stream_handle);
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;
  if (event->device != stream->device)
    return state.fail(cudaErrorInvalidResourceHandle, "an event and a stream of two devices");
  if (!stream->captured) {
    record(*event, *stream);
    return state.finish(cudaSuccess);
  }
  if (flags != cudaEventRecordExternal) return refuse_event_in_capture();
  stream->captured->given.push_back([event_handle](Stream& on) {
    Event* recorded = runtime().find(event_handle);
    if (recorded == nullptr) return cudaErrorInvalidResourceHandle;
    record(*recorded, on);
    return cudaSuccess;
  });
  return state.finish(cudaSuccess);
}

cudaError_t wait_for_event(cudaStream_t stream_handle, cudaEvent_t event_handle, unsigned flags) {
  const Call call;
  RuntimeState& state = runtime();
  Event* event = state.find(event_handle);
  Stream* stream = event == nullptr ? nullptr : state.find(stream_handle);
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;
  if (!stream->captured) {
    wait_for(*event, *stream);
    return state.finish(cudaSuccess);
  }
  if (flags != cudaEventWaitExternal) return refuse_event_in_capture();
  stream->captured->given.push_back([event_handle](Stream& on) {
    const Event* awaited = runtime().find(event_handle);
    if (awaited == nullptr) return cudaErrorInvalidResourceHandle;
    wait_for(*awaited, on);
    return cudaSuccess;
  });
  return state.finish(cudaSuccess);
}

template <class Handle>
Graph* to_graph(Handle handle) {
  return reinterpret_cast<Graph*>(handle);
}

}  // namespace
}  // namespace lathe::ptx

using lathe::ptx::Call;
using lathe::ptx::is_done;
using lathe::ptx::runtime;
using lathe::ptx::this_thread;

extern "C" {

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  return lathe::ptx::make_stream(stream, cudaStreamDefault);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  return lathe::ptx::make_stream(stream, flags);
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int) {
  return lathe::ptx::make_stream(stream, flags);
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0;
  *greatest = -5;
  return cudaSuccess;
}

// What is on its way is still done.
cudaError_t cudaStreamDestroy(cudaStream_t handle) {
  const Call call;
  lathe::ptx::Stream* stream = runtime().find(handle);
  if (stream == nullptr || handle == nullptr) return cudaErrorInvalidResourceHandle;
  stream->is_destroyed = true;
  if (stream->is_idle())
    runtime().streams.remove_if([&](const auto& each) { return each.get() == stream; });
  return runtime().finish(cudaSuccess);
}

cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
  Call call;
  lathe::ptx::Stream* stream = runtime().find(handle);
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;
  if (this_thread().captures > 0) return runtime().refuse_in_capture("cudaStreamSynchronize");
  call.wait([=] { return stream->is_idle(); });
  learn_of(*stream);
  return runtime().finish(cudaSuccess);
}

cudaError_t cudaStreamQuery(cudaStream_t handle) {
  const Call call;
  const lathe::ptx::Stream* stream = runtime().find(handle);
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;
  if (stream->captured) return runtime().refuse_in_capture("cudaStreamQuery");
  if (!stream->is_idle()) return runtime().finish(cudaErrorNotReady);
  learn_of(*stream);
  return runtime().finish(cudaSuccess);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags) {
  return lathe::ptx::wait_for_event(stream, event, flags);
}

cudaError_t cudaEventCreate(cudaEvent_t* event) {
  return lathe::ptx::make_event(event);
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  return lathe::ptx::make_event(event);
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  const Call call;
  if (runtime().find(event) == nullptr) return cudaErrorInvalidResourceHandle;
  runtime().events.erase(event);
  return runtime().finish(cudaSuccess);
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  return lathe::ptx::record_event(event, stream, cudaEventRecordDefault);
}

cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned flags) {
  return lathe::ptx::record_event(event, stream, flags);
}

// Of the recording that was the last one when it was called.
cudaError_t cudaEventSynchronize(cudaEvent_t handle) {
  Call call;
  const lathe::ptx::Event* event = runtime().find(handle);
  if (event == nullptr) return cudaErrorInvalidResourceHandle;
  if (this_thread().captures > 0) return runtime().refuse_in_capture("cudaEventSynchronize");
  const lathe::ptx::Event awaited = *event;
  call.wait([&] { return is_done(awaited); });
  learn_of(awaited);
  return runtime().finish(cudaSuccess);
}

cudaError_t cudaEventQuery(cudaEvent_t handle) {
  const Call call;
  const lathe::ptx::Event* event = runtime().find(handle);
  if (event == nullptr) return cudaErrorInvalidResourceHandle;
  if (!is_done(*event)) return runtime().finish(cudaErrorNotReady);
  learn_of(*event);
  return runtime().finish(cudaSuccess);
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t from, cudaEvent_t to) {
  const Call call;
  const lathe::ptx::Event* begin = runtime().find(from);
  const lathe::ptx::Event* end = begin == nullptr ? nullptr : runtime().find(to);
  if (end == nullptr || begin->last == nullptr || end->last == nullptr)
    return runtime().finish(cudaErrorInvalidResourceHandle);
  if (!is_done(*begin) || !is_done(*end)) return runtime().finish(cudaErrorNotReady);
  const auto elapsed = end->last->when - begin->last->when;
  *milliseconds = std::chrono::duration<float, std::milli>(elapsed).count();
  return runtime().finish(cudaSuccess);
}

// Graphs: a capture notes what would have been done, a launch does it.
cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode) {
  const Call call;
  lathe::ptx::Stream* stream = runtime().find_of_device(handle);
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;
  if (handle == nullptr || stream->captured) {
    return runtime().fail(cudaErrorStreamCaptureUnsupported,
                          "cudaStreamBeginCapture of the null stream, or during a capture");
  }
  stream->captured = std::make_unique<lathe::ptx::Graph>();
  stream->captured->device = stream->device;
  ++this_thread().captures;
  return runtime().finish(cudaSuccess);
}

cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t* graph) {
  const Call call;
  *graph = nullptr;
  lathe::ptx::Stream* stream = runtime().find(handle);
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;
  if (!stream->captured) return runtime().finish(cudaErrorInvalidValue);
  --this_thread().captures;
  *graph = reinterpret_cast<cudaGraph_t>(stream->captured.release());
  return runtime().finish(cudaSuccess);
}

cudaError_t cudaStreamIsCapturing(cudaStream_t handle, cudaStreamCaptureStatus* status) {
  const Call call;
  const lathe::ptx::Stream* stream = runtime().find(handle);
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;
  *status = stream->captured ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return runtime().finish(cudaSuccess);
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph,
                                 unsigned long long) {
  const Call call;
  auto* copied = new lathe::ptx::Graph(*lathe::ptx::to_graph(graph));
  *executable = reinterpret_cast<cudaGraphExec_t>(copied);
  return runtime().finish(cudaSuccess);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t handle) {
  const Call call;
  lathe::ptx::Stream* stream = runtime().find_of_device(handle);
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;
  const lathe::ptx::Graph& graph = *lathe::ptx::to_graph(executable);
  if (graph.device != stream->device)
    return runtime().fail(cudaErrorInvalidResourceHandle, "a graph of another device");
  for (const auto& give : graph.given) {
    const cudaError_t error = give(*stream);
    if (error != cudaSuccess) return error;
  }
  return runtime().finish(cudaSuccess);
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  const Call call;
  delete lathe::ptx::to_graph(graph);
  return runtime().finish(cudaSuccess);
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  const Call call;
  delete lathe::ptx::to_graph(executable);
  return runtime().finish(cudaSuccess);
}

}  // extern "C"
