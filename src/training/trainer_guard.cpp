// What becomes of the run after a step: it goes on, with the step's update or without, goes back to
// a checkpoint, or ends.
#include <fmt/format.h>

#include "lathe/error.h"
#include "lathe/model_files.h"
#include "lathe/resume.h"
#include "rank_agreement.h"
#include "trainer.h"

namespace lathe {

// With --check-finite: everything from here on is looked at, beginning with what there is.
void Trainer::check_start() {
  if (!options_.check_finite) return;
  finite_check_.emplace(*backend_, model_, adamw_);
  finite_check_->set_step(state_.step);
  finite_check_->check_parameters();
  backend_->set_observer(&*finite_check_);
}

// With --rank-check-every: that all ranks have the same parameters. Errors: peer.
void Trainer::check_ranks(const char* when, std::int64_t step) {
  if (communicator_.is_alone() || options_.rank_check_every == 0) return;
  const Trace::Span checking = span("check_ranks");
  require_same_parameters(*backend_, model_tensors(model_), communicator_,
                          fmt::format("{} {}", when, step));
}

// Before a step's update, which gives each rank anew what it has of the others' parameters.
void Trainer::check_ranks_in_step() {
  const std::int64_t step = state_.step + 1, every = options_.rank_check_every;
  if (every > 0 && step % every == 0) check_ranks("in step", step);
}

// Counts the step and logs it; false when the run has gone back to a checkpoint instead. Errors:
// diverged, when the run cannot go on.
bool Trainer::settle(const Step& step) {
  const DecidedStep decided{.number = state_.step + 1,
                            .loss = step.loss,
                            .gradient_norm = step.gradient_norm,
                            .updated = step.updated};
  const Trace::Span settling = span("settle");
  const std::string reason = step.updated ? "" : guard_.reason(state_.guard, decided);
  const auto end = [&](const std::string& what) {
    throw Error(ExitCode::diverged,
                fmt::format("{}{}: the weights are as they were; try a lower --lr or a longer "
                            "--warmup-steps",
                            reason, what));
  };
  const Verdict verdict = guard_.judge(state_.guard, decided);
  if (verdict == Verdict::stop) end("");
  // What the step has read is behind the run, whatever becomes of it.
  const DataPosition position = loader_->position();
  state_.epoch = position.epoch;
  state_.sequence = position.sequence;
  if (verdict != Verdict::rollback) {
    ++state_.step;
    if (step.updated) state_.tokens += horizon_.tokens_per_step;
    log_step(step);
  }
  if (!step.updated && guard_.gives_up(state_.guard)) {
    finish_saving();
    end(fmt::format(", with {} in a row the run ends (--max-skips)", state_.guard.refused_in_row));
  }
  if (verdict == Verdict::skipped) {
    folder_->announce(
        fmt::format("warning: {}; skipped, the weights are as they were ({} in a row, "
                    "{} of the run)",
                    reason, state_.guard.refused_in_row, state_.guard.skipped_steps));
  }
  if (verdict == Verdict::rollback) roll_back(reason);
  return verdict != Verdict::rollback;
}

// The state of the newest whole checkpoint, but for how often the run has gone back. The loader
// stays where it is, behind the batch.
void Trainer::roll_back(const std::string& reason) {
  saver_->wait();
  std::vector<std::string> problems;
  const auto checkpoint = agreed_checkpoint(folder_->path(), &problems, communicator_);
  for (const std::string& problem : problems) folder_->announce("passed over " + problem);
  if (!checkpoint) {
    throw Error(ExitCode::diverged,
                fmt::format("{}: the run has no checkpoint to go back to; give --checkpoint-every, "
                            "or --on-nonfinite skip",
                            reason));
  }
  const GuardState left = state_.guard;
  load_checkpoint(*checkpoint, *backend_, model_tensors(model_), optimizer_tensors(model_, adamw_));
  state_ = checkpoint->state;
  check_ranks("back at step", state_.step);
  state_.guard.rollbacks = left.rollbacks;
  state_.guard.refused_in_row = left.refused_in_row;
  state_.guard.last_refused_step = left.last_refused_step;
  saver_->go_back_to(state_.step);
  folder_->go_back_to(resumed_step(state_));
  folder_->announce(
      fmt::format("warning: {}; back to step {} and on with the data after that batch "
                  "({} in a row, {} of the run)",
                  reason, state_.step, state_.guard.refused_in_row, state_.guard.rollbacks));
  catch_up();
}

}  // namespace lathe
