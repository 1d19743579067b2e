// What a run puts on the disk to go on from, and whether there is room for it.
#include <fmt/format.h>

#include <algorithm>

#include "lathe/dataset.h"
#include "lathe/error.h"
#include "lathe/model_files.h"
#include "run/disk_space.h"
#include "trainer.h"

namespace lathe {
namespace {

// Relative to a checkpoint, where it is saved with the run.
std::string tokenizer_in_run(const std::string& name) {
  const bool is_saved = name == kTokenizerFolder || name == kTokenizerFile;
  return is_saved ? "../../" + name : name;
}

}  // namespace

CheckpointData Trainer::checkpoint_data() {
  state_.wall_seconds = wall_seconds();
  return {.config = config_,
          .precision = options_.precision,
          .tokenizer = tokenizer_in_run(data_.tokenizer_name),
          .state = state_,
          .plans = backend_->plans(),
          .options = to_toml(options_),
          .model = updated_model_tensors(model_, adamw_),
          .optimizer = optimizer_tensors(model_, adamw_)};
}

// Before anything else that is due at a step: nothing optional may cost what has been trained.
void Trainer::save() {
  if (state_.step == 0) return;
  const Trace::Span saving = span("save");
  saver_->save();
  folder_->write_plans(backend_->plans());
}

void Trainer::finish_saving() {
  if (state_.step == 0) return;
  const Trace::Span saving = span("finish_saving");
  saver_->finish();
  folder_->write_plans(backend_->plans());
}

// Refuses to start what could not be saved.
void Trainer::check_disk_space() {
  if (state_.step == horizon_.steps || !communicator_.is_first()) return;
  const std::optional<std::uint64_t> free = free_bytes(options_.out);
  const std::uint64_t needed = disk_bytes(checkpoint_data());
  const std::uint64_t given_back = options_.overwrite ? bytes_in(options_.out) : 0;
  if (!free || *free + given_back >= needed) return;
  throw Error(ExitCode::storage,
              fmt::format("--out {}: a checkpoint takes {} bytes, {} are free there; free some, or "
                          "give a folder elsewhere",
                          options_.out, needed, *free));
}

// While the next checkpoint is written, all that are to be kept are there.
void Trainer::warn_of_little_space() {
  const std::optional<std::uint64_t> free = free_bytes(options_.out);
  if (!free || state_.step == horizon_.steps) return;
  const auto times = [](std::int64_t steps, std::int64_t every) {
    return every > 0 ? steps / every : 0;
  };
  const std::int64_t made = 1 + times(horizon_.steps - 1 - state_.step, options_.checkpoint_every);
  std::int64_t kept = made;
  if (options_.keep > 0) {
    kept = std::min(made, options_.keep + 1 + times(horizon_.steps, options_.keep_every) +
                              (options_.keep_best ? 1 : 0));
  }
  const auto present = static_cast<std::int64_t>(list_checkpoints(options_.out).size());
  const std::uint64_t each = disk_bytes(checkpoint_data());
  const auto needed = static_cast<std::uint64_t>(std::max<std::int64_t>(1, kept - present)) * each;
  if (*free >= needed) return;
  folder_->announce(
      fmt::format("warning: --out {}: {} bytes are free, the checkpoints to come take up to {} ({} "
                  "each, see --keep and --checkpoint-every)",
                  options_.out, *free, needed, each));
}

}  // namespace lathe
