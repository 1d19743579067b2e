// The steps that a trace and a profiler see: whole ones, each with what comes behind it.
#include <fmt/format.h>

#include <sstream>
#include <utility>

#include "lathe/error.h"
#include "trainer.h"

namespace lathe {
namespace {

std::string text_of(Trace::WallTime time) {
  return std::to_string(time.time_since_epoch().count());
}

Trace::WallTime time_of(const std::string& text) {
  return Trace::WallTime(Trace::WallTime::duration(std::stoll(text)));
}

std::vector<Trace::Text> texts_of_all(Communicator& communicator, const Trace::Text& own) {
  std::vector<Trace::Text> texts;
  for (const std::string& of_rank :
       communicator.gather(fmt::format("{} {}\n{}", own.count, own.left_out, own.events))) {
    Trace::Text text{.events = of_rank.substr(of_rank.find('\n') + 1), .count = 0, .left_out = 0};
    std::istringstream(of_rank) >> text.count >> text.left_out;
    texts.push_back(std::move(text));
  }
  return texts;
}

}  // namespace

// nullopt: none.
std::optional<StepRange> Trainer::watched_steps() const {
  constexpr std::int64_t kTracedSteps = 10;
  if (!options_.profile_steps.empty()) return parse_step_range(options_.profile_steps);
  if (!trace_) return std::nullopt;
  return StepRange{.first = state_.step + 1, .last = state_.step + kTracedSteps};
}

// Before every step.
void Trainer::follow_watched_steps() {
  if (!watched_) return;
  if (are_watched_steps_over()) {
    if (backend_->is_profiled()) backend_->stop_profiling();
    finish_trace();
  } else if (state_.step + 1 >= watched_->first && !backend_->is_profiled()) {
    backend_->start_profiling();
    if (!trace_) return;
    trace_->start();
    backend_->set_tracer(trace_.get());
    communicator_.set_trace(trace_.get());
  }
}

// On all ranks at one time.
bool Trainer::are_watched_steps_over() const {
  if (state_.step + 1 > watched_->last) return true;
  return trace_ && communicator_.any(trace_->is_full());
}

// At the end of the watched steps, or of a run that ends before them.
void Trainer::finish_trace() {
  if (!trace_ || !watched_) return;
  const std::string first = communicator_.broadcast(text_of(trace_->started()));
  const std::optional<Trace::Text> own = stop_trace(time_of(first));
  if (own) write_traces(texts_of_all(communicator_, *own));
}

// What this rank has recorded; nullopt, with a word about it, where there were no such steps.
std::optional<Trace::Text> Trainer::stop_trace(Trace::WallTime origin) {
  const std::optional<StepRange> watched = std::exchange(watched_, std::nullopt);
  if (!watched) return std::nullopt;
  backend_->set_tracer(nullptr);
  communicator_.set_trace(nullptr);
  if (trace_->is_recording()) return trace_->finish(origin);
  folder_->announce(fmt::format("warning: --trace {}: the run made none of the steps {} to {}",
                                options_.trace, watched->first, watched->last));
  return std::nullopt;
}

// A trace is of no use to the run: one that cannot be written does not end it.
void Trainer::write_traces(std::span<const Trace::Text> ranks) {
  if (!communicator_.is_first()) return;
  std::size_t count = 0, left_out = 0;
  for (const Trace::Text& rank : ranks) {
    count += rank.count;
    left_out += rank.left_out;
  }
  try {
    write_trace(options_.trace, ranks);
  } catch (const Error& error) {
    folder_->announce(fmt::format("warning: {}; there is no trace", error.what()));
    return;
  }
  folder_->say(fmt::format("trace      {} events{}, {}", count,
                           left_out == 0 ? "" : fmt::format(" ({} more left out)", left_out),
                           options_.trace));
}

}  // namespace lathe
