#include "runtime_state.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace lathe::ptx {
namespace {

void read_order(Order& order, const std::string& word) {
  if (word == "forward") order = Order::forward;
  if (word == "reverse") order = Order::reverse;
  if (word == "shuffled") order = Order::shuffled;
}

// As many as LATHE_PTX_DEVICES says, of which CUDA_VISIBLE_DEVICES may name some: up to the first
// that there is not, as on a GPU.
std::vector<int> read_devices() {
  const char* wanted = std::getenv("LATHE_PTX_DEVICES");
  const int count =
      std::clamp(wanted == nullptr ? 1 : std::atoi(wanted), 0, static_cast<int>(kMostDevices));
  std::vector<int> visible;
  const char* names = std::getenv("CUDA_VISIBLE_DEVICES");
  if (names == nullptr) {
    for (int device = 0; device < count; ++device) visible.push_back(device);
    return visible;
  }
  for (const char* at = names; *at != '\0';) {
    char* end = nullptr;
    const long device = std::strtol(at, &end, 10);
    if (end == at || device < 0 || device >= count) break;
    visible.push_back(static_cast<int>(device));
    at = *end == ',' ? end + 1 : end;
  }
  return visible;
}

}  // namespace

ThreadState& this_thread() {
  thread_local ThreadState state;
  return state;
}

// Never destroyed: threads of communicators may still be there when the program ends.
RuntimeState& runtime() {
  static RuntimeState& state = *new RuntimeState;
  return state;
}

RuntimeState::RuntimeState() : visible(read_devices()) {
  Options& options = machine().options;
  if (const char* order = std::getenv("LATHE_PTX_ORDER")) read_order(options.order, order);
  if (const char* seed = std::getenv("LATHE_PTX_SEED"))
    options.seed = std::strtoull(seed, nullptr, 10);
  if (const char* races = std::getenv("LATHE_PTX_RACES"))
    options.races = std::strcmp(races, "0") != 0;
  for (std::size_t i = 0; i < devices.size(); ++i) {
    streams.push_back(std::make_unique<Stream>());
    streams.back()->device = static_cast<int>(i);
    devices[i].null_stream = streams.back().get();
  }
}

Stream* RuntimeState::find(cudaStream_t handle) {
  if (handle == nullptr) return device().null_stream;
  for (const auto& stream : streams) {
    if (reinterpret_cast<cudaStream_t>(stream.get()) == handle && !stream->is_destroyed)
      return stream.get();
  }
  fail(cudaErrorInvalidResourceHandle, "a stream that there is not");
  return nullptr;
}

Stream* RuntimeState::find_of_device(cudaStream_t handle) {
  Stream* stream = find(handle);
  if (stream == nullptr || stream->device == machine().device) return stream;
  fail(cudaErrorInvalidResourceHandle, fmt::format("a stream of device {}, the current one is {}",
                                                   stream->device, machine().device));
  return nullptr;
}

Event* RuntimeState::find(cudaEvent_t handle) {
  const auto found = events.find(handle);
  if (found != events.end()) return found->second.get();
  fail(cudaErrorInvalidResourceHandle, "an event that there is not");
  return nullptr;
}

cudaError_t RuntimeState::finish(cudaError_t error) {
  if (device().sticky_error != cudaSuccess) return device().sticky_error;
  if (error != cudaSuccess) {
    this_thread().last_error = error;
    this_thread().details.erase(error);
  }
  return error;
}

cudaError_t RuntimeState::fail(cudaError_t error, const std::string& detail) {
  this_thread().last_error = error;
  this_thread().details[error] = detail;
  return error;
}

cudaError_t RuntimeState::refuse_unless(bool valid, const char* detail) {
  return valid ? finish(cudaSuccess) : fail(cudaErrorInvalidValue, detail);
}

cudaError_t RuntimeState::refuse_in_capture(const char* call) {
  if (this_thread().captures == 0) return finish(cudaSuccess);
  return fail(cudaErrorStreamCaptureUnsupported, fmt::format("{} during a capture", call));
}

void Call::wait_for_device(int device) {
  wait([device] {
    const auto& streams = runtime().streams;
    return std::all_of(streams.begin(), streams.end(), [&](const auto& stream) {
      return stream->device != device || stream->is_idle();
    });
  });
}

}  // namespace lathe::ptx
