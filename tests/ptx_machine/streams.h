// Streams, events and graphs. Work on a stream is done at once when nothing is before it.
// Collectives (nccl.cpp) take their time: what comes after one on its stream, or waits for an event
// after it, is kept until it is done.
#pragma once

#include <cuda_runtime_api.h>

#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "machine.h"

namespace lathe::ptx {

// Work on a stream.
using Work = std::function<cudaError_t()>;

struct Step {
  std::function<void()> start;    // called once, when all before it is done
  std::function<bool()> is_done;  // none: as soon as it has started
  bool has_started = false;
};

struct Stream;

// What a capture notes, each to be given to the stream that the graph is launched on.
struct Graph {
  int device = 0;
  std::vector<std::function<cudaError_t(Stream&)>> given;
};

struct Stream {
  int device = 0;
  bool heeds_null_stream = true;             // as those do that are not made cudaStreamNonBlocking
  std::uint32_t number = 0;                  // of all streams
  std::uint32_t time = 0;                    // counts what was given to it
  std::uint32_t begun = 0;                   // the time of the last that was begun
  std::shared_ptr<const StreamTimes> known;  // of other streams
  std::uint64_t host_version = 0;            // of what the host knew at its last work
  std::deque<Step> steps;                    // not yet done
  bool is_destroyed = false;
  std::unique_ptr<Graph> captured;  // while it is captured

  bool is_idle() const { return steps.empty(); }
};

// One recording of an event, which outlives the event for those that wait for it.
struct Recording {
  bool is_done = false;
  std::shared_ptr<const StreamTimes> known;
  std::chrono::steady_clock::time_point when{};
};

struct Event {
  int device = 0;
  std::shared_ptr<Recording> last;  // null: never recorded
};

// Does the work now, or when the stream comes to it, or, while the stream is captured, when the
// graph is launched. Work that fails later than its call loses the device.
cudaError_t submit(Stream& stream, Work work);

// The null stream comes after all that was given to streams that heed it, and they after it.
void heed_null_stream(Stream& stream);

void record(Event& event, Stream& stream);
void wait_for(const Event& event, Stream& stream);

// A place in the order of streams, taken when work is given, and begun when it is done.
struct Turn {
  Stream* stream;
  std::uint32_t time;
  std::shared_ptr<const StreamTimes> known;
};
Turn take_turn(Stream& stream);
void begin(const Turn& turn);

// The host has waited for all of a stream, or for an event: what it gives to any stream from here
// on comes after it.
void learn_of(const Stream& stream);
void learn_of(const Event& event);

// Whether races between streams are possible on the current device: whether two have had work.
bool has_several_streams();

// Goes one step on, on any stream. False when every stream is idle or has to wait.
bool advance();

}  // namespace lathe::ptx
