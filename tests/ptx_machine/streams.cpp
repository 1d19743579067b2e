#include "streams.h"

#include "machine.h"
#include "runtime_state.h"

namespace lathe::ptx {
namespace {

// Errors that nobody is there to be told: as on a GPU, every later call tells.
void do_late(const Work& work) {
  const cudaError_t error = work();
  Device& device = runtime().device();
  if (error == cudaSuccess || device.sticky_error != cudaSuccess) return;
  device.sticky_error = error;
  device.sticky_detail = this_thread().details[error];
}

bool advance(Stream& stream) {
  if (stream.is_idle()) return false;
  Step& step = stream.steps.front();
  if (!step.has_started) {
    step.has_started = true;
    if (step.start) step.start();
  }
  if (step.is_done && !step.is_done()) return false;
  stream.steps.pop_front();
  return true;
}

}  // namespace

cudaError_t submit(Stream& stream, Work work) {
  if (stream.captured) {
    stream.captured->given.push_back(
        [work = std::move(work)](Stream& on) { return submit(on, work); });
    return cudaSuccess;
  }
  if (stream.is_idle()) return work();
  stream.steps.push_back({[work = std::move(work)] { do_late(work); }, nullptr});
  return cudaSuccess;
}

void record(Event& event, Stream& stream) {
  event.last = std::make_shared<Recording>();
  const auto finish = [recording = event.last] {
    recording->is_done = true;
    recording->when = std::chrono::steady_clock::now();
  };
  if (stream.is_idle()) {
    finish();
  } else {
    stream.steps.push_back({finish, nullptr});
  }
}

void wait_for(const Event& event, Stream& stream) {
  if (event.last == nullptr || event.last->is_done) return;
  stream.steps.push_back({nullptr, [recording = event.last] { return recording->is_done; }});
}

bool advance() {
  RuntimeState& state = runtime();
  const int device = machine().device;
  bool moved = false;
  for (auto at = state.streams.begin(); at != state.streams.end() && !moved;) {
    Stream& stream = **at;
    machine().device = stream.device;
    moved = advance(stream);
    const bool is_over = stream.is_destroyed && stream.is_idle();
    at = is_over ? state.streams.erase(at) : std::next(at);
  }
  machine().device = device;
  state.changed.notify_all();
  return moved;
}

}  // namespace lathe::ptx
