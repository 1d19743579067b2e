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
  std::deque<Step> steps;  // not yet done
  bool is_destroyed = false;
  std::unique_ptr<Graph> captured;  // while it is captured

  bool is_idle() const { return steps.empty(); }
};

// One recording of an event, which outlives the event for those that wait for it.
struct Recording {
  bool is_done = false;
  std::chrono::steady_clock::time_point when{};
};

struct Event {
  int device = 0;
  std::shared_ptr<Recording> last;  // null: never recorded
};

// Does the work now, or when the stream comes to it, or, while the stream is captured, when the
// graph is launched. Work that fails later than its call loses the device.
cudaError_t submit(Stream& stream, Work work);

void record(Event& event, Stream& stream);
void wait_for(const Event& event, Stream& stream);

// Goes one step on, on any stream. False when every stream is idle or has to wait.
bool advance();

}  // namespace lathe::ptx
