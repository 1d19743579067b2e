// What one rank did when: a timeline in Chrome's trace event format, for Perfetto and
// chrome://tracing. Each rank is a process of it, each thread a row.
//
// Whoever has something to show takes a Trace* (nullptr: there is none) and holds a span:
//
//   const Trace::Span span(trace, "all_gather", "communication", {"bytes", bytes});
//
// Every call may come from any thread. Names are kept as pointers: give literals.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "lathe/backend.h"

namespace lathe {

// A number to be shown with an event; without a name there is none.
struct TraceNumber {
  const char* name = nullptr;
  std::int64_t value = 0;
};

struct TraceEvent {
  const char* name;
  const char* category;  // operation, step, saving, communication
  TraceNumber number;
  SteadyTime start, end;
};

class Trace final : public Tracer {
 public:
  // How many events are kept: what comes later is counted and left out.
  static constexpr std::size_t kMostEvents = std::size_t{1} << 18;

  // Made by the thread that trains.
  explicit Trace(int rank, std::size_t most_events = kMostEvents);

  void start();  // nothing is recorded before
  bool is_recording() const { return is_recording_.load(std::memory_order_relaxed); }
  bool is_full() const;

  // Lasts as long as it lives, in the row of its thread. It may outlive the recording, not the
  // trace.
  class Span {
   public:
    Span(Trace* trace, const char* name, const char* category, TraceNumber number = {});
    ~Span();
    Span(const Span&) = delete;
    Span& operator=(const Span&) = delete;

   private:
    Trace* trace_;  // nullptr: nothing is recorded
    std::size_t index_ = 0;
  };

  // What no thread waits for, such as a transfer that goes on beside it: in a row of that name.
  void record(const TraceEvent& event, const char* row);

  void record(const TimedOperation& operation) override;

  // The system's time of start(), by which those of several ranks agree.
  using WallTime = std::chrono::system_clock::time_point;
  WallTime started() const { return started_; }

  // Ends the recording; spans that are open end here. What was recorded as lines of JSON between
  // commas, in time counted from `origin`. Once.
  struct Text {
    std::string events;
    std::size_t count, left_out;
  };
  Text finish(WallTime origin);

 private:
  struct Recorded {
    TraceEvent event;
    std::size_t row;
    bool is_open;
  };
  std::size_t add(const TraceEvent& event, std::size_t row, bool is_open);
  std::size_t row_of_thread();
  std::size_t row_of(const std::string& name);
  std::string format(const Recorded& recorded, SteadyTime origin) const;

  const int rank_;
  const std::size_t most_events_;
  std::atomic<bool> is_recording_ = false;
  WallTime started_;
  SteadyTime steady_started_;  // the same moment

  mutable std::mutex mutex_;  // of what follows
  std::vector<Recorded> events_;
  std::size_t left_out_ = 0;
  std::vector<std::string> rows_;
  std::map<std::thread::id, std::size_t> rows_of_threads_;
};

// Refuses what write_trace() could not write, or would destroy: a file that holds no trace. What
// lies in `made_later`, a folder that there may not be yet, may be there by then. Errors: storage,
// usage, naming --trace.
void check_trace_path(const std::filesystem::path& path, const std::filesystem::path& made_later);

// The file of all ranks; it replaces an earlier trace. Errors: as check_trace_path.
void write_trace(const std::filesystem::path& path, std::span<const Trace::Text> ranks);

}  // namespace lathe
