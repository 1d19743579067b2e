// next_batch -> forward -> loss -> backward -> AdamW, and when what surrounds it comes.
#include "trainer.h"

#include <fmt/format.h>

#include "lathe/dataset.h"
#include "lathe/error.h"
#include "lathe/exit_codes.h"
#include "lathe/model_files.h"
#include "lathe/plan.h"
#include "lathe/resume.h"
#include "lathe/stop_signal.h"

namespace lathe {
namespace {

std::unique_ptr<Backend> make_training_backend(const Options& options, const ModelConfig& config,
                                               int ranks) {
  std::unique_ptr<Backend> backend = make_backend(options);
  require_memory(*backend, config, options, ranks);
  return backend;
}

// Of a rank, in the one trace of all.
std::size_t most_events_of(const Communicator& communicator) {
  return Trace::kMostEvents / static_cast<std::size_t>(communicator.size());
}

}  // namespace

Trainer::Trainer(const Options& options, FolderLock lock, TrainingData data,
                 std::optional<CheckpointInfo> start, const ModelSource* initial,
                 Communicator& communicator)
    : communicator_(communicator),
      options_(options),
      data_(std::move(data)),
      tasks_(open_training_tasks(options, data_)),
      config_(complete_config(options, data_.vocab)),
      horizon_(make_horizon(options, data_.train.sequences(options.seq_len), communicator.size())),
      schedule_{.kind = parse_lr_schedule(options.lr_schedule),
                .lr = options.lr,
                .final_lr_fraction = options.final_lr_fraction,
                .warmup_steps = options.warmup_steps,
                .total_steps = horizon_.steps},
      guard_(options, horizon_.tokens_per_step),
      stop_rules_(options),
      backend_(make_training_backend(options, config_, communicator.size())),
      model_(*backend_, config_, training_model_options(options)),
      decoder_(*backend_, model_, /*sequences=*/1),
      adamw_(*backend_, model_.specs(), model_.parameters(), model_.gradients(),
             adamw_options(options), communicator),
      is_new_(!start),
      tokens_(static_cast<std::size_t>(options.micro_batch * options.seq_len)),
      targets_(tokens_.size()) {
  communicator_.attach(*backend_);
  if (!options_.gemm_plans.empty()) {
    backend_->restore_plans(read_file(options_.gemm_plans, ExitCode::usage));
  } else if (start && !start->plans.empty()) {
    backend_->restore_plans(start->plans);
  }
  if (start) {
    load_checkpoint(*start, *backend_, model_tensors(model_), optimizer_tensors(model_, adamw_));
    state_ = start->state;
    earlier_seconds_ = state_.wall_seconds;
  } else if (initial != nullptr) {
    initialize_from(*initial, *backend_, model_, adamw_);
    initial_ = initial->info();
  } else {
    initialize_parameters(*backend_, model_.specs(), adamw_.master_slices(), options_.seed);
    adamw_.publish_master();
  }
  if (!communicator.is_alone()) {
    block_is_done_ = [this](int block) { adamw_.reduce_gradients(block); };
  }
  loader_.emplace(data_.train,
                  DataLoaderOptions{.seq_len = options_.seq_len,
                                    .seed = options_.seed,
                                    .shuffle = options_.shuffle,
                                    .rows_per_read = options_.micro_batch,
                                    .rank = communicator.rank(),
                                    .ranks = communicator.size()},
                  DataPosition{.epoch = state_.epoch, .sequence = state_.sequence});
  if (!options_.trace.empty()) {
    trace_ = std::make_unique<Trace>(communicator.rank(), most_events_of(communicator));
  }
  watched_ = watched_steps();
  check_ranks("at the start, step", state_.step);
  do_together(communicator, [this] { check_disk_space(); });
  folder_.emplace(
      RunFolderSpec{.folder = options_.out,
                    .resumed = start ? std::optional(resumed_step(state_)) : std::nullopt,
                    .config = to_toml(options_),
                    .quiet = options_.quiet,
                    .llmc_log = options_.llmc_log,
                    .tensorboard = options_.tensorboard,
                    .writes = communicator.is_first()},
      std::move(lock));
  const bool is_own = communicator.is_first() && start && is_of_run(*start, options_.out);
  const std::int64_t saved_step = communicator.largest(is_own ? state_.step : -1);
  saver_.emplace(
      *backend_,
      SaverSpec{.run_folder = options_.out,
                .logs = folder_->metrics_files(),
                .keep = options_.keep,
                .keep_every = options_.keep_every,
                .keep_best = options_.keep_best,
                .background = options_.background_save,
                .retries = options_.save_retries,
                .retry_seconds = options_.save_retry_seconds,
                .saved_step = saved_step,
                .trace = trace_.get(),
                .before_save = [this] { check_ranks("before the save of step", state_.step); }},
      [this] { return checkpoint_data(); },
      [this](const std::string& line) { folder_->announce(line); }, communicator);
  result_.steps = horizon_.steps;
  result_.parameters = parameter_count(model_.specs());
  result_.seed = options_.seed;
  result_.precision = options_.precision;
  result_.device = backend_->description();
  result_.best_val_loss = state_.best_val_loss;
}

int Trainer::run() {
  try {
    tell_failure_from_stop(communicator_, [this] { run_steps(); });
  } catch (const Error& error) {
    give_up();
    if (is_stop(error)) {
      finish("stopped", stop_reason(), stop_exit_code());
    } else {
      fail({.code = error.code(), .message = error.what()});
    }
    throw;
  } catch (...) {
    give_up();
    fail(current_failure());
    throw;
  }
  return result_.exit_code;
}

void Trainer::run_steps() {
  const std::int64_t end =
      options_.stop_at_step > 0 ? std::min(horizon_.steps, options_.stop_at_step) : horizon_.steps;
  write_start();
  say_start();
  check_start();
  if (!is_new_) save();  // where the checkpoint has come from elsewhere
  catch_up();
  while (state_.step < end && !has_ended() && !must_stop()) {
    follow_watched_steps();
    const std::optional<Step> step = train_step();
    if (!step || !settle(*step)) continue;
    for (const std::string& message : backend_->take_messages()) folder_->announce(message);
    if (state_.step == end) break;
    saver_->follow();
    if (is_due(options_.checkpoint_every)) save();
    if (is_due(options_.val_every)) validate();
    if (is_due(options_.sample_every)) show_sample();
  }
  finish_saving();
  if (!must_stop()) validate();
  end_run();
}

// What is under way, when the run is about to fail: other ranks may be anywhere.
void Trainer::give_up() {
  communicator_.abandon();
  saver_->give_up();
  if (!trace_) return;
  if (const auto own = stop_trace(trace_->started())) write_traces({&*own, 1});
}

// One update from a whole batch, as far as the guard lets it. Nothing is awaited before its end.
// Nothing is given, and no update made, when the run is asked to stop between two micro-steps.
std::optional<Trainer::Step> Trainer::train_step() {
  if (finite_check_) finite_check_->set_step(state_.step + 1);
  const Trace::Span step = span("step", {"step", state_.step + 1});
  const double start = now();
  const auto tokens = static_cast<double>(horizon_.tokens_per_step);
  for (std::int64_t micro_step = 0; micro_step < horizon_.micro_steps; ++micro_step) {
    const bool is_last = micro_step + 1 == horizon_.micro_steps;
    if (must_stop()) return std::nullopt;
    const Trace::Span micro = span("micro_step", {"micro_step", micro_step + 1});
    next_batch();
    model_.forward_backward({.sequences = options_.micro_batch,
                             .seq_len = options_.seq_len,
                             .tokens = tokens_,
                             .targets = targets_},
                            1.0f / static_cast<float>(tokens), /*accumulate=*/micro_step > 0,
                            is_last ? block_is_done_ : nullptr);
  }
  check_ranks_in_step();
  saver_->before_update();
  const Trace::Span update = span("update");
  // Bias correction counts what has gone into the moments.
  adamw_.update(state_.step + 1 - state_.guard.skipped_steps, learning_rate(schedule_, state_.step),
                model_.loss_sum(), guard_.limits(state_.guard));
  const AdamW::Sums sums = adamw_.sums();
  double seconds = communicator_.is_first() ? now() - start : 0;
  communicator_.sum(std::span(&seconds, 1));  // rules may ask for it: all ranks must see the same
  return Step{.loss = double{sums.loss} / tokens,
              .gradient_norm = sums.gradient_norm,
              .seconds = seconds,
              .updated = sums.updated};
}

void Trainer::next_batch() {
  const Trace::Span waiting = span("next_batch");
  loader_->next(tokens_, targets_);
}

// Whether any rank has been asked to stop. All ranks ask at the same places, and then all stop
// there.
bool Trainer::must_stop() {
  const int exit_code = is_stop_requested() ? stop_exit_code() : 0;
  const auto agreed = static_cast<int>(communicator_.largest(exit_code));
  if (agreed > 0) take_over_stop(agreed);
  return agreed > 0;
}

}  // namespace lathe
