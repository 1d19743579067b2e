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

}  // namespace

std::vector<int> read_devices(const char* count, const char* visible) {
  const int wanted = count == nullptr ? 1 : std::atoi(count);
  const int most = std::clamp(wanted, 0, static_cast<int>(kMostDevices));
  std::vector<int> devices;
  if (visible == nullptr) {
    for (int device = 0; device < most; ++device) devices.push_back(device);
    return devices;
  }
  while (*visible != '\0') {
    char* end = nullptr;
    const long device = std::strtol(visible, &end, 10);
    if (end == visible || device < 0 || device >= most) break;
    devices.push_back(static_cast<int>(device));
    visible = *end == ',' ? end + 1 : end;
  }
  return devices;
}

ThreadState& this_thread() {
  thread_local ThreadState state;
  return state;
}

// Never destroyed: threads of communicators may still be there when the program ends.
RuntimeState& runtime() {
  static RuntimeState& state = *new RuntimeState;
  return state;
}

RuntimeState::RuntimeState()
    : visible(read_devices(std::getenv("LATHE_PTX_DEVICES"), std::getenv("CUDA_VISIBLE_DEVICES"))) {
  Options& options = machine().options;
  if (const char* order = std::getenv("LATHE_PTX_ORDER")) read_order(options.order, order);
  if (const char* seed = std::getenv("LATHE_PTX_SEED"))
    options.seed = std::strtoull(seed, nullptr, 10);
  if (const char* races = std::getenv("LATHE_PTX_RACES"))
    options.races = std::strcmp(races, "0") != 0;
  for (std::size_t i = 0; i < devices.size(); ++i)
    devices[i].null_stream = &add_stream(static_cast<int>(i), true);
}

Stream& RuntimeState::add_stream(int device, bool heeds_null_stream) {
  Stream& stream = *streams.emplace_back(std::make_unique<Stream>());
  stream.device = device;
  stream.heeds_null_stream = heeds_null_stream;
  stream.number = streams_made++;
  return stream;
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

cudaError_t RuntimeState::use(const char* what, std::initializer_list<UsedMemory> memory) {
  if (!has_several_streams()) return cudaSuccess;
  begin_launch(what);
  for (const UsedMemory& used : memory) {
    const std::string race = machine().memory.find_race(used.pointer, used.bytes, used.use);
    if (!race.empty()) return lose_device(fmt::format("{}: {}", what, race));
  }
  return cudaSuccess;
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

cudaError_t RuntimeState::lose_device(const std::string& detail) {
  device().sticky_error = cudaErrorLaunchFailure;
  device().sticky_detail = detail;
  return cudaErrorLaunchFailure;
}

cudaError_t RuntimeState::refuse_unless(bool valid, const char* detail) {
  return valid ? finish(cudaSuccess) : fail(cudaErrorInvalidValue, detail);
}

cudaError_t RuntimeState::refuse_in_capture(const char* call) {
  if (this_thread().captures == 0) return finish(cudaSuccess);
  return fail(cudaErrorStreamCaptureUnsupported, fmt::format("{} during a capture", call));
}

void Call::wait_for_device(int device) {
  const auto& streams = runtime().streams;
  wait([&] {
    return std::all_of(streams.begin(), streams.end(), [&](const auto& stream) {
      return stream->device != device || stream->is_idle();
    });
  });
  for (const auto& stream : streams) {
    if (stream->device == device) learn_of(*stream);
  }
}

}  // namespace lathe::ptx
