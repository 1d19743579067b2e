#include "streams.h"

#include <algorithm>

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

using KnownTimes = std::shared_ptr<const StreamTimes>;

std::uint32_t time_in(const KnownTimes& known, std::uint32_t stream) {
  return known != nullptr && stream < known->size() ? (*known)[stream] : 0;
}

// Adds `more` to what is known; false when that was nothing new.
bool learn(KnownTimes& known, const KnownTimes& more) {
  if (more == nullptr || more == known) return false;
  StreamTimes merged = known == nullptr ? StreamTimes{} : *known;
  merged.resize(std::max(merged.size(), more->size()));
  bool is_new = false;
  for (std::size_t i = 0; i < more->size(); ++i) {
    is_new |= (*more)[i] > merged[i];
    merged[i] = std::max(merged[i], (*more)[i]);
  }
  if (is_new) known = std::make_shared<const StreamTimes>(std::move(merged));
  return is_new;
}

// What who has waited for all of the stream knows.
KnownTimes times_of(const Stream& stream) {
  StreamTimes times = stream.known == nullptr ? StreamTimes{} : *stream.known;
  times.resize(std::max<std::size_t>(times.size(), stream.number + 1));
  times[stream.number] = stream.time;
  return std::make_shared<const StreamTimes>(std::move(times));
}

}  // namespace

Turn take_turn(Stream& stream) {
  RuntimeState& state = runtime();
  if (stream.host_version != state.host_version) learn(stream.known, state.host_known);
  stream.host_version = state.host_version;
  return {&stream, ++stream.time, stream.known};
}

void begin(const Turn& turn) {
  StreamOrder& order = machine().order;
  turn.stream->begun = turn.time;
  order.now = {turn.stream->number, turn.time, ""};
  order.known = turn.known;
  order.knows_all = true;
  for (const auto& other : runtime().streams) {
    if (other->device == turn.stream->device && other.get() != turn.stream)
      order.knows_all &= time_in(turn.known, other->number) >= other->begun;
  }
}

void learn_of(const Stream& stream) {
  if (time_in(runtime().host_known, stream.number) == stream.time) return;
  if (learn(runtime().host_known, times_of(stream))) ++runtime().host_version;
}

void learn_of(const Event& event) {
  if (event.last != nullptr && learn(runtime().host_known, event.last->known))
    ++runtime().host_version;
}

bool has_several_streams() {
  const auto& streams = runtime().streams;
  return std::count_if(streams.begin(), streams.end(), [](const auto& stream) {
           return stream->device == machine().device && stream->time > 0;
         }) > 1;
}

cudaError_t submit(Stream& stream, Work work) {
  if (stream.captured) {
    stream.captured->given.push_back(
        [work = std::move(work)](Stream& on) { return submit(on, work); });
    return cudaSuccess;
  }
  heed_null_stream(stream);
  const Turn turn = take_turn(stream);
  if (stream.is_idle()) {
    begin(turn);
    return work();
  }
  stream.steps.push_back({[work = std::move(work), turn] {
                            begin(turn);
                            do_late(work);
                          },
                          nullptr});
  return cudaSuccess;
}

void heed_null_stream(Stream& stream) {
  if (!stream.heeds_null_stream) return;
  const Stream* null_stream =
      runtime().devices[static_cast<std::size_t>(stream.device)].null_stream;
  for (const auto& other : runtime().streams) {
    const bool is_either = &stream == null_stream || other.get() == null_stream;
    if (!is_either || other.get() == &stream || other->device != stream.device ||
        !other->heeds_null_stream || other->time == 0) {
      continue;
    }
    Event given{stream.device, nullptr};
    record(given, *other);
    wait_for(given, stream);
  }
}

void record(Event& event, Stream& stream) {
  event.last = std::make_shared<Recording>();
  event.last->known = times_of(stream);
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
  if (event.last == nullptr) return;
  learn(stream.known, event.last->known);
  if (event.last->is_done) return;
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
