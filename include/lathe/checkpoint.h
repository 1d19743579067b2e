// Checkpoints: what it takes to go on training, as folders RUN/checkpoints/step-00001000
// (docs/formats.md). A folder of that name is whole: it is written under another name, synced, and
// renamed last. Reading trusts nothing: every byte is covered by a checksum.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "lathe/backend.h"
#include "lathe/model_config.h"
#include "lathe/safetensors.h"
#include "lathe/step_guard.h"
#include "lathe/stop_rules.h"

namespace lathe {

// Where a run stands after `step` updates.
struct TrainState {
  std::int64_t step = 0;
  std::uint64_t epoch = 0, sequence = 0;  // the next sequence of the data order
  std::int64_t tokens = 0;                // trained on so far
  double wall_seconds = 0;                // of all sessions of the run
  std::optional<double> best_val_loss;
  std::int64_t best_val_step = 0;
  GuardState guard = {};
  StopRuleState stop_rules = {};
  bool operator==(const TrainState&) const = default;
};

struct CheckpointData {
  ModelConfig config;
  std::string precision;  // fp32 | bf16: the type of the model's tensors
  std::string tokenizer;  // "bytes", "gpt2", a path relative to the checkpoint, or "none"
  TrainState state;
  std::string plans;                   // Backend::plans()
  std::vector<NamedTensor> model;      // one per parameter_specs(config), under its name
  std::vector<NamedTensor> optimizer;  // fp32: m.NAME, v.NAME and, with bf16, master.NAME of each
};

struct CheckpointInfo {
  std::filesystem::path folder;
  ModelConfig config;
  std::string precision;
  std::string tokenizer;  // as open_tokenizer takes it, or "none": not known
  TrainState state;
  std::string plans;
};

// Writes run_folder/checkpoints/step-%08d, replacing one of the same step, and removes what killed
// runs left half-written. Error(storage): then every earlier checkpoint is as it was.
void save_checkpoint(const std::filesystem::path& run_folder, Backend& backend,
                     const CheckpointData& data);

// Deletes the checkpoints of the lowest steps until `keep` are left; 0 keeps all. Error(storage).
void prune_checkpoints(const std::filesystem::path& run_folder, std::int64_t keep);

// Gives checkpoints of steps above `step` names that no resume and no pruning looks at
// ("set-aside-0-step-00002000"): a run that goes on from an older checkpoint writes its own,
// and theirs stay for their owner to delete. Returns the new folders. Error(storage).
std::vector<std::filesystem::path> set_aside_checkpoints(const std::filesystem::path& run_folder,
                                                         std::int64_t step);

// Folders of a run's checkpoints by ascending step, whether whole or not.
std::vector<std::filesystem::path> list_checkpoints(const std::filesystem::path& run_folder);

// Opens and verifies a checkpoint folder, or of a run folder the newest checkpoint that is whole
// (see newest_checkpoint for `problems`). Error(checkpoint) when there is none.
CheckpointInfo open_checkpoint(const std::filesystem::path& path,
                               std::vector<std::string>* problems = nullptr);

// The newest whole checkpoint of a run; what was wrong with newer ones is added to `problems`, a
// line each.
std::optional<CheckpointInfo> newest_checkpoint(const std::filesystem::path& run_folder,
                                                std::vector<std::string>* problems);

// Fills the tensors from an opened checkpoint. The names must be exactly those in its files; an
// empty `optimizer` leaves the optimizer's file alone. Error(checkpoint).
void load_checkpoint(const CheckpointInfo& info, Backend& backend,
                     std::span<const NamedTensor> model, std::span<const NamedTensor> optimizer);

}  // namespace lathe
