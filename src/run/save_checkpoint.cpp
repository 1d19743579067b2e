// A checkpoint is written beside its place, synced, and renamed last: a name "step-..." is never
// half of one.
#include <fmt/format.h>

#include <system_error>
#include <utility>

#include "base/number_text.h"
#include "checkpoint_names.h"
#include "checkpoint_state.h"
#include "disk_space.h"
#include "lathe/checkpoint.h"
#include "lathe/error.h"
#include "lathe/files.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kBlock = 4096;           // of nearly all file systems
constexpr std::uint64_t kStateBytes = 2 * 4096;  // of state.json without plans; it has about 1,000

std::map<std::string, std::string> optimizer_metadata() {
  return {{"format", "lathe"}};
}

// Error(storage) when the checkpoint's files do not fit: better than to find out after writing most
// of them.
void require_space(const fs::path& checkpoints, const CheckpointData& data) {
  const std::optional<std::uint64_t> free = free_bytes(checkpoints);
  if (const std::uint64_t needed = disk_bytes(data); free && *free < needed) {
    throw Error(ExitCode::storage, fmt::format("{}: a checkpoint takes {} bytes, {} are free",
                                               checkpoints.string(), needed, *free));
  }
}

// Synced every time: where an earlier save failed, nobody knows what of it is on the disk.
void make_checkpoints_folder(const fs::path& run_folder, const fs::path& checkpoints) {
  std::error_code why;
  fs::create_directories(checkpoints, why);
  if (why) fail_storage(checkpoints, "create", why);
  sync_folder(run_folder);
  sync_folder(run_folder.parent_path());
}

// Only `needed`, where the new checkpoint is to be written, must go; of others the lines say what
// stays. Theirs may be names that a killed run gave them and that no disk knows yet: synced first,
// a power cut cannot give half a checkpoint its old name back.
void remove_leftovers(const fs::path& checkpoints, const fs::path& needed,
                      std::vector<std::string>& remarks) {
  std::vector<fs::path> leftovers = entries(checkpoints);
  std::erase_if(leftovers, [](const fs::path& path) { return !is_leftover(path); });
  if (!leftovers.empty()) sync_folder(checkpoints);
  for (const fs::path& path : leftovers) {
    std::error_code why;
    fs::remove_all(path, why);
    if (why && path == needed) fail_storage(path, "remove", why);
    if (why) {
      remarks.push_back(fmt::format("{}: cannot remove: {}", path.string(), why.message()));
    }
  }
}

FileDigest write_synced(const fs::path& path, const std::string& text) {
  OutputFile file(path);
  file.write(text);
  file.sync();
  file.close();
  Checksum checksum;
  checksum.update(std::as_bytes(std::span(text)));
  return {.bytes = text.size(), .xxh3 = checksum.value()};
}

// All bytes are handed to the system before it is asked to bring the first of them to the disk:
// until then nobody may change the tensors.
void write_files(const fs::path& folder, const CheckpointData& data, const SaveHooks& hooks) {
  CheckpointState state{.config = data.config,
                        .precision = data.precision,
                        .tokenizer = data.tokenizer,
                        .train = data.state,
                        .plans = data.plans,
                        .files = {}};
  SafetensorsWriter model =
      write_tensors(folder / kModelFile, hooks.read, data.model,
                    model_metadata(data.config, data.precision, data.tokenizer));
  SafetensorsWriter optimizer =
      write_tensors(folder / kOptimizerFile, hooks.read, data.optimizer, optimizer_metadata());
  hooks.all_read();
  state.files[kModelFile] = model.finish();
  state.files[kOptimizerFile] = optimizer.finish();
  if (!data.options.empty()) {
    state.files[kOptionsFile] = write_synced(folder / kOptionsFile, data.options);
  }
  write_synced(folder / kStateFile, state_to_text(state));
  sync_folder(folder);
}

}  // namespace

std::uint64_t disk_bytes(const CheckpointData& data) {
  const auto blocks = [](std::uint64_t bytes) { return (bytes + kBlock - 1) / kBlock * kBlock; };
  const std::uint64_t model =
      safetensors_bytes(data.model, model_metadata(data.config, data.precision, data.tokenizer));
  // Plans are text in JSON: its quotation marks take two bytes each.
  return blocks(model) + blocks(safetensors_bytes(data.optimizer, optimizer_metadata())) +
         blocks(data.options.size()) + blocks(kStateBytes + 2 * data.plans.size()) + kBlock;
}

std::vector<std::string> save_checkpoint(const fs::path& run_folder, const CheckpointData& data,
                                         const SaveHooks& hooks) {
  const fs::path checkpoints = run_folder / kCheckpointsFolder;
  const fs::path final = checkpoints / step_name(data.state.step);
  const fs::path partial = partial_name(final);
  std::vector<std::string> remarks;
  make_checkpoints_folder(run_folder, checkpoints);
  remove_leftovers(checkpoints, partial, remarks);
  require_space(checkpoints, data);
  std::error_code why;
  try {
    if (!fs::create_directory(partial, why) && why) fail_storage(partial, "create", why);
    write_files(partial, data, hooks);
    hooks.before_commit();
    exchange_names(partial, final, removed_name(final));
  } catch (...) {
    fs::remove_all(partial, why);  // give the space back; the error that matters is on its way
    throw;
  }
  sync_folder(checkpoints);
  remarks.clear();                             // what is still there is told of once
  remove_leftovers(checkpoints, {}, remarks);  // the checkpoint that this one has replaced too
  return remarks;
}

std::vector<std::string> save_checkpoint(const fs::path& run_folder, Backend& backend,
                                         const CheckpointData& data) {
  return save_checkpoint(run_folder, data, {.read = download(backend), .all_read = [] {}});
}

}  // namespace lathe
