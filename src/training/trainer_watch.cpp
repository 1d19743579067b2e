// The steps that a trace and a profiler see: whole ones, each with what comes behind it.
#include <fmt/format.h>

#include <utility>

#include "lathe/error.h"
#include "trainer.h"

namespace lathe {

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
  const std::int64_t next = state_.step + 1;
  if (next > watched_->last || (trace_ && trace_->is_full())) {
    if (backend_->is_profiled()) backend_->stop_profiling();
    finish_trace();
  } else if (next >= watched_->first && !backend_->is_profiled()) {
    backend_->start_profiling();
    if (!trace_) return;
    trace_->start();
    backend_->set_tracer(trace_.get());
  }
}

// At the end of the watched steps, or of a run that ends before them. A trace is of no use to the
// run: one that cannot be written does not end it.
void Trainer::finish_trace() {
  const std::optional<StepRange> watched = std::exchange(watched_, std::nullopt);
  if (!trace_ || !watched) return;
  backend_->set_tracer(nullptr);
  if (!trace_->is_recording()) {
    folder_->announce(fmt::format("warning: --trace {}: the run made none of the steps {} to {}",
                                  options_.trace, watched->first, watched->last));
    return;
  }
  const Trace::Text text = trace_->finish(trace_->started());
  try {
    write_trace(options_.trace, {&text, 1});
  } catch (const Error& error) {
    folder_->announce(fmt::format("warning: {}; there is no trace", error.what()));
    return;
  }
  folder_->say(fmt::format(
      "trace      {} events{}, {}", text.count,
      text.left_out == 0 ? "" : fmt::format(" ({} more left out)", text.left_out), options_.trace));
}

}  // namespace lathe
