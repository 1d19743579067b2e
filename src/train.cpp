// lathe train: next_batch -> forward -> loss -> backward -> AdamW, with what surrounds it. Nothing
// is written before everything that can be refused has been checked.
#include <fmt/format.h>
#include <sys/resource.h>

#include <cmath>
#include <optional>

#include "clock.h"
#include "lathe/commands.h"
#include "lathe/cuda.h"
#include "lathe/data_loader.h"
#include "lathe/dataset.h"
#include "lathe/error.h"
#include "lathe/evaluate.h"
#include "lathe/horizon.h"
#include "lathe/model_files.h"
#include "lathe/plan.h"
#include "lathe/plot.h"
#include "lathe/resume.h"
#include "lathe/run_folder.h"
#include "lathe/sample.h"
#include "lathe/schedule.h"
#include "lathe/stop_signal.h"
#include "lathe/training_data.h"
#include "number_text.h"
#include "training_tasks.h"
#include "utf8.h"

namespace lathe {
namespace {

std::int64_t peak_memory_bytes() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  return std::int64_t{usage.ru_maxrss} * 1024;
}

std::unique_ptr<Backend> make_training_backend(const Options& options, const ModelConfig& config) {
  std::unique_ptr<Backend> backend = make_backend(options);
  require_memory(*backend, config, options);
  return backend;
}

// Relative to a checkpoint, where it is saved with the run.
std::string tokenizer_in_run(const std::string& name) {
  const bool is_saved = name == kTokenizerFolder || name == kTokenizerFile;
  return is_saved ? "../../" + name : name;
}

// One run, from its first step in this process to its last.
class Trainer {
 public:
  // `initial`: what a new run takes its first parameters from, or nullptr.
  Trainer(const Options& options, FolderLock lock, TrainingData data,
          std::optional<CheckpointInfo> start, const ModelSource* initial);

  int run();

 private:
  // Of one update, before it.
  struct Step {
    double loss, gradient_norm, seconds;
  };
  Step train_step();
  void log_step(const Step& step);
  void require_finite(const Step& step) const;
  void follow_profiler();
  void validate();
  void measure_loss();
  void save();
  void show_sample();
  void finish(const std::string& status, int exit_code);
  void show_start(double loss);
  void show_end();
  bool is_due(std::int64_t every) const { return every > 0 && state_.step % every == 0; }
  double wall_seconds() const { return earlier_seconds_ + now() - started_; }

  Options options_;
  TrainingData data_;
  std::vector<MultipleChoiceTask> tasks_;
  ModelConfig config_;
  Horizon horizon_;
  ScheduleSpec schedule_;
  std::unique_ptr<Backend> backend_;
  Gpt2 model_;
  CachedDecoder decoder_;  // of samples
  AdamW adamw_;
  TrainState state_;
  bool is_new_;
  std::optional<ModelInfo> initial_;
  std::optional<DataLoader> loader_;
  std::optional<RunFolder> folder_;
  std::vector<std::int32_t> tokens_, targets_;  // (B, T) of a micro-batch
  std::optional<StepRange> profiled_;
  RunResult result_;
  std::int64_t saved_step_ = -1, validated_step_ = -1;
  double started_ = now(), earlier_seconds_ = 0, training_seconds_ = 0;
  std::int64_t trained_tokens_ = 0;  // in this process
};

Trainer::Trainer(const Options& options, FolderLock lock, TrainingData data,
                 std::optional<CheckpointInfo> start, const ModelSource* initial)
    : options_(options),
      data_(std::move(data)),
      tasks_(open_training_tasks(options, data_)),
      config_(complete_config(options, data_.vocab)),
      horizon_(make_horizon(options, data_.train.sequences(options.seq_len))),
      schedule_{.kind = parse_lr_schedule(options.lr_schedule),
                .lr = options.lr,
                .final_lr_fraction = options.final_lr_fraction,
                .warmup_steps = options.warmup_steps,
                .total_steps = horizon_.steps},
      backend_(make_training_backend(options, config_)),
      model_(*backend_, config_, training_model_options(options)),
      decoder_(*backend_, model_, /*sequences=*/1),
      adamw_(*backend_, model_.specs(), model_.parameters(), model_.gradients(),
             adamw_options(options)),
      is_new_(!start),
      tokens_(static_cast<std::size_t>(options.micro_batch * options.seq_len)),
      targets_(tokens_.size()) {
  if (!options_.profile_steps.empty()) profiled_ = parse_step_range(options_.profile_steps);
  if (!options_.gemm_plans.empty()) {
    backend_->restore_plans(read_file(options_.gemm_plans, ExitCode::usage));
  } else if (start && !start->plans.empty()) {
    backend_->restore_plans(start->plans);
  }
  if (start) {
    load_checkpoint(*start, *backend_, model_tensors(model_), optimizer_tensors(model_, adamw_));
    state_ = start->state;
    saved_step_ = state_.step;
    earlier_seconds_ = state_.wall_seconds;
  } else if (initial != nullptr) {
    initialize_from(*initial, *backend_, model_, adamw_);
    initial_ = initial->info();
  } else {
    initialize_parameters(*backend_, model_.specs(), adamw_.master(), options_.seed);
    adamw_.publish_master();
  }
  loader_.emplace(data_.train,
                  DataLoaderOptions{.seq_len = options_.seq_len,
                                    .seed = options_.seed,
                                    .shuffle = options_.shuffle,
                                    .rows_per_read = options_.micro_batch},
                  DataPosition{.epoch = state_.epoch, .sequence = state_.sequence});
  folder_.emplace(RunFolderSpec{.folder = options_.out,
                                .resumed_step = start ? std::optional(state_.step) : std::nullopt,
                                .quiet = options_.quiet,
                                .llmc_log = options_.llmc_log},
                  std::move(lock));
  folder_->write_config(to_toml(options_));
  if (!start) folder_->write_token_keys(data_.token_keys);
  if (data_.tokenizer) save_tokenizer(*data_.tokenizer, folder_->path());
  result_.steps = horizon_.steps;
  result_.parameters = parameter_count(model_.specs());
  result_.seed = options_.seed;
  result_.precision = options_.precision;
  result_.device = backend_->description();
  result_.best_val_loss = state_.best_val_loss;
}

int Trainer::run() {
  const std::int64_t end =
      options_.stop_at_step > 0 ? std::min(horizon_.steps, options_.stop_at_step) : horizon_.steps;
  folder_->say(fmt::format("lathe train | {} | {} | {} parameters", backend_->description(),
                           options_.precision, result_.parameters));
  if (options_.device == "auto" && !uses_gpu(options_)) folder_->say(why_no_gpu() + ": on the CPU");
  for (const std::string& message : data_.messages) folder_->say(message);
  for (const std::string& warning : data_.warnings) folder_->announce(warning);
  folder_->say(data_.summary);
  folder_->say(fmt::format("{} steps of {} tokens ({} micro-batches of {} x {}) | run folder {}",
                           horizon_.steps, horizon_.tokens_per_step, horizon_.micro_steps,
                           options_.micro_batch, options_.seq_len, options_.out));
  if (initial_) {
    folder_->say(
        fmt::format("starts from {}: {}", initial_->path.string(), title(initial_->format)));
    for (const std::string& remark : initial_->remarks) folder_->announce(remark);
  }
  if (!is_new_) {
    folder_->say(fmt::format("resumed at step {}", state_.step));
    for (const auto& path : set_aside_checkpoints(folder_->path(), state_.step)) {
      folder_->say(fmt::format("set aside, from a later step: {}", path.string()));
    }
  }
  watch_stop_signals();
  try {
    while (state_.step < end && stop_signal() == 0) {
      follow_profiler();
      log_step(train_step());
      for (const std::string& message : backend_->take_messages()) folder_->announce(message);
      if (state_.step == end) break;
      if (is_due(options_.val_every)) validate();
      if (is_due(options_.checkpoint_every)) save();
      if (is_due(options_.sample_every)) show_sample();
    }
    if (stop_signal() == 0) validate();
    save();
    if (stop_signal() != 0) {
      folder_->announce(fmt::format("stopped by signal {} after step {}; go on with --resume",
                                    stop_signal(), state_.step));
      finish("stopped", 128 + stop_signal());
    } else if (state_.step < horizon_.steps) {
      folder_->announce(fmt::format("stopped at step {}; go on with --resume", state_.step));
      finish("stopped", 0);
    } else {
      show_sample();
      finish("finished", 0);
      show_end();
    }
  } catch (const Error& error) {
    result_.error = error.what();
    finish("failed", static_cast<int>(error.code()));
    throw;
  }
  return result_.exit_code;
}

// One update from a whole batch. Nothing is awaited before its end.
Trainer::Step Trainer::train_step() {
  const double start = now();
  const auto tokens = static_cast<double>(horizon_.tokens_per_step);
  for (std::int64_t micro_step = 0; micro_step < horizon_.micro_steps; ++micro_step) {
    loader_->next(tokens_, targets_);
    model_.forward_backward({.sequences = options_.micro_batch,
                             .seq_len = options_.seq_len,
                             .tokens = tokens_,
                             .targets = targets_},
                            1.0f / static_cast<float>(tokens), /*accumulate=*/micro_step > 0);
  }
  adamw_.update(state_.step + 1, learning_rate(schedule_, state_.step), model_.loss_sum());
  const AdamW::Sums sums = adamw_.sums();
  const Step step{.loss = double{sums.loss} / tokens,
                  .gradient_norm = sums.gradient_norm,
                  .seconds = now() - start};
  require_finite(step);
  const DataPosition position = loader_->position();
  state_.epoch = position.epoch;
  state_.sequence = position.sequence;
  state_.tokens += horizon_.tokens_per_step;
  ++state_.step;
  return step;
}

void Trainer::require_finite(const Step& step) const {
  const bool has_loss = std::isfinite(step.loss);
  if (has_loss && std::isfinite(step.gradient_norm)) return;
  throw Error(ExitCode::diverged,
              fmt::format("{} is {} at step {}: the weights are as they were; try a lower --lr or "
                          "a longer --warmup-steps",
                          has_loss ? "gradient norm" : "training loss",
                          has_loss ? step.gradient_norm : step.loss, state_.step + 1));
}

void Trainer::log_step(const Step& step) {
  const auto [loss, norm, seconds] = step;
  const double lr = learning_rate(schedule_, state_.step - 1);
  const double rate = static_cast<double>(horizon_.tokens_per_step) / seconds;
  training_seconds_ += seconds;
  trained_tokens_ += horizon_.tokens_per_step;
  result_.train_loss = loss;
  folder_->training(
      {.step = state_.step, .loss = loss, .lr = lr, .grad_norm = norm, .tokens_per_second = rate});
  if (state_.step == 1 && is_new_ && !initial_) show_start(loss);
  if (is_due(options_.log_every) || state_.step == horizon_.steps) {
    const double average = static_cast<double>(trained_tokens_) / training_seconds_;
    const double left =
        static_cast<double>((horizon_.steps - state_.step) * horizon_.tokens_per_step);
    folder_->say(fmt::format(
        "step {}/{} {:.1f}% | loss {:.4f} | norm {:.2f} | lr {:.1e} | {:.0f} ms | {} tok/s | eta "
        "{}",
        state_.step, horizon_.steps,
        100.0 * static_cast<double>(state_.step) / static_cast<double>(horizon_.steps), loss, norm,
        lr, 1e3 * seconds, rate_text(rate), duration_text(left / average)));
  }
}

// The profiler sees whole steps.
void Trainer::follow_profiler() {
  if (!profiled_) return;
  if (state_.step + 1 == profiled_->first) backend_->start_profiling();
  if (state_.step == profiled_->last) backend_->stop_profiling();
}

// A fresh model knows nothing: its loss is that of a uniform guess.
void Trainer::show_start(double loss) {
  constexpr double kLargeGap = 0.5;
  const double uniform_loss = std::log(static_cast<double>(config_.vocab));
  if (std::abs(loss - uniform_loss) > kLargeGap) {
    folder_->announce(
        fmt::format("warning: the first loss is {:.3f}, far from ln({}) = {:.3f} of a "
                    "uniform guess",
                    loss, config_.vocab, uniform_loss));
  }
}

// What a stop signal interrupts is not recorded.
void Trainer::validate() {
  if (validated_step_ == state_.step) return;
  if (data_.val) measure_loss();
  answer(tasks_, model_, state_.step, *folder_);
  if (stop_signal() == 0) validated_step_ = state_.step;
}

void Trainer::measure_loss() {
  const auto stopped_or_done = evaluate(model_, data_.val->files, options_.val_tokens);
  if (!stopped_or_done) return;
  const Evaluation& evaluation = *stopped_or_done;
  result_.val_loss = evaluation.loss;
  if (!state_.best_val_loss || evaluation.loss < *state_.best_val_loss) {
    state_.best_val_loss = evaluation.loss;
    state_.best_val_step = state_.step;
  }
  folder_->validation(state_.step, evaluation.loss);
  std::string line = fmt::format("val  {}/{} | loss {:.4f} over {} tokens", state_.step,
                                 horizon_.steps, evaluation.loss, evaluation.tokens);
  if (!data_.val->floor.empty()) {
    const FloorComparison floor =
        compare_with_floor(evaluation, data_.val->floor, options_.seq_len);
    result_.floor = floor.floor;
    result_.floor_standard_error = floor.standard_error;
    line += fmt::format(" | floor {:.4f}, {:.1f} % above it", floor.floor, 100 * floor.excess);
  }
  folder_->say(line);
}

void Trainer::save() {
  if (saved_step_ == state_.step) return;
  state_.wall_seconds = wall_seconds();
  save_checkpoint(folder_->path(), *backend_,
                  {.config = config_,
                   .precision = options_.precision,
                   .tokenizer = tokenizer_in_run(data_.tokenizer_name),
                   .state = state_,
                   .plans = backend_->plans(),
                   .model = model_tensors(model_),
                   .optimizer = optimizer_tensors(model_, adamw_)});
  folder_->write_plans(backend_->plans());
  saved_step_ = state_.step;
  prune_checkpoints(folder_->path(), options_.keep);
}

void Trainer::show_sample() {
  constexpr std::int64_t kTokens = 400;
  const Tokenizer* tokenizer = data_.tokenizer.get();
  const std::int32_t first =
      tokenizer != nullptr ? tokenizer->first_token() : first_token(config_.vocab);
  std::vector<std::int32_t> tokens;
  generate(decoder_,
           {.prompt = {std::min(first, static_cast<std::int32_t>(config_.vocab - 1))},
            .max_tokens = kTokens,
            .sampler = {.temperature = 0.8},
            .seed = options_.seed,
            .end = std::nullopt},
           [&](std::int64_t, std::int32_t token) { tokens.push_back(token); });
  const std::string text =
      tokenizer != nullptr ? shown(decode(*tokenizer, tokens)) : numbers_text(tokens);
  folder_->write_sample(state_.step, text + "\n");
  folder_->say(fmt::format("--- sample after step {} ---\n{}\n---", state_.step, text));
}

void Trainer::finish(const std::string& status, int exit_code) {
  result_.status = status;
  result_.exit_code = exit_code;
  result_.step = state_.step;
  result_.tokens = state_.tokens;
  result_.best_val_loss = state_.best_val_loss;
  result_.best_val_step = state_.best_val_step;
  result_.tokens_per_second =
      training_seconds_ > 0 ? static_cast<double>(trained_tokens_) / training_seconds_ : 0;
  result_.wall_seconds = wall_seconds();
  result_.peak_memory_bytes = peak_memory_bytes();
  if (saved_step_ > 0) result_.checkpoint = fmt::format("checkpoints/step-{:08}", saved_step_);
  folder_->write_result(result_);
}

void Trainer::show_end() {
  constexpr int kColumns = 96, kRows = 18;
  folder_->say(plot_terminal({.title = "loss, nats per token",
                              .x_label = "step",
                              .y_label = "loss",
                              .curves = read_curves(options_.out),
                              .floor = result_.floor,
                              .floor_label = "floor of the stories' grammar"},
                             kColumns, kRows));
  std::string line = fmt::format("finished {} steps, {} tokens in {}", state_.step, state_.tokens,
                                 duration_text(wall_seconds()));
  if (result_.val_loss) line += fmt::format(" | val loss {:.4f}", *result_.val_loss);
  if (result_.floor) {
    line +=
        fmt::format(" | floor {:.4f} ({:+.1f} %, standard error {:.4f})", *result_.floor,
                    100 * (*result_.val_loss / *result_.floor - 1), *result_.floor_standard_error);
  }
  folder_->announce(line + fmt::format(" | {}", (folder_->path() / result_.checkpoint).string()));
}

// That a model to start from and the data go together.
void check_tokens(const InitialModel& initial, TrainingData& data) {
  require_tokenizer(initial, data);
  if (!data.tokenizer) return;
  const std::string warning = warning_of_other_tokens(initial.source->info(), *data.tokenizer);
  if (!warning.empty()) data.warnings.push_back(warning);
}

}  // namespace

int train_command(const Options& given) {
  Options options = given;
  RunFolder::check(options.out, options.overwrite, options.resume.has_value());
  FolderLock lock = RunFolder::lock(options.out);
  std::optional<CheckpointInfo> start = find_start(options);
  const auto initial = start ? std::nullopt : open_initial_model(options);
  resolve(options);
  DataOrigin origin{.tokenizer = options.tokenizer, .token_keys = {}};
  if (start) {
    origin = {.tokenizer = start->tokenizer, .token_keys = RunFolder::token_keys(options.out)};
  }
  TrainingData data = open_training_data(options, origin);
  if (initial) check_tokens(*initial, data);
  if (start && is_at_end(options, *start, data) && RunFolder::has_finished(options.out)) {
    fmt::print("{}: finished at step {}; nothing to do\n", options.out, start->state.step);
    return 0;
  }
  Trainer trainer(options, std::move(lock), std::move(data), std::move(start),
                  initial ? initial->source.get() : nullptr);
  return trainer.run();
}

}  // namespace lathe
