// Checkpoints: what it takes to go on training, as folders RUN/checkpoints/step-00001000
// (docs/formats.md). A folder of that name is whole: it is written under another name, synced, and
// renamed last. Reading trusts nothing: every byte is covered by a checksum.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "lathe/backend.h"
#include "lathe/communicator.h"
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
  std::int64_t validated_step = 0;  // the last whose validation is in here; 0: none
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
  std::string options;                 // the run's config.toml; "": not of a run
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

// How save_checkpoint comes to the tensors, and what it calls when it needs them no more: all that
// is left then is to bring the bytes to the disk. `before_commit` brings there what a run that goes
// on from the checkpoint takes for granted.
struct SaveHooks {
  PieceReader read;
  std::function<void()> all_read;
  std::function<void()> before_commit = [] {};
};

// Writes run_folder/checkpoints/step-%08d, replacing one of the same step, and removes what killed
// runs left half-written. Returns what it could not remove, a line each. Error(storage): then every
// earlier checkpoint is as it was. Each rank writes what it has of the tensors; the first one does
// all else, and it fails on all ranks or on none.
std::vector<std::string> save_checkpoint(const std::filesystem::path& run_folder,
                                         const CheckpointData& data, const SaveHooks& hooks,
                                         Communicator& communicator = alone());
// The same from a device's memory, through one small buffer.
std::vector<std::string> save_checkpoint(const std::filesystem::path& run_folder, Backend& backend,
                                         const CheckpointData& data);

// Bytes that a checkpoint takes on a disk, with what is lost in the last block of a file.
std::uint64_t disk_bytes(const CheckpointData& data);

// Folders of a run's checkpoints by ascending step, whether whole or not. What is named otherwise,
// "latest" among it, is none.
std::vector<std::filesystem::path> list_checkpoints(const std::filesystem::path& run_folder);

// Opens and verifies a checkpoint folder, or of a run folder the newest checkpoint that is whole
// (see newest_checkpoint for `problems`). Error(checkpoint) when there is none.
CheckpointInfo open_checkpoint(const std::filesystem::path& path,
                               std::vector<std::string>* problems = nullptr);

// The newest whole checkpoint of a run; what was wrong with newer ones is added to `problems`, a
// line each.
std::optional<CheckpointInfo> newest_checkpoint(const std::filesystem::path& run_folder,
                                                std::vector<std::string>* problems);

// The config.toml in a checkpoint folder, as far as it is there and what the checkpoint's
// state.json says of it.
std::optional<std::filesystem::path> options_of_checkpoint(const std::filesystem::path& folder);

// Fills the tensors from an opened checkpoint. The names must be exactly those in its files; an
// empty `optimizer` leaves the optimizer's file alone. Error(checkpoint).
void load_checkpoint(const CheckpointInfo& info, Backend& backend,
                     std::span<const NamedTensor> model, std::span<const NamedTensor> optimizer);

}  // namespace lathe
