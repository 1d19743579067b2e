// A checkpoint is written beside its place, synced, and renamed last: a name "step-..." is never
// half of one.
#include <fmt/format.h>

#include <map>
#include <sstream>
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

using FileDigests = std::map<std::string, std::vector<FileDigest>>;

void append(std::vector<FilePart>& parts, const std::vector<FilePart>& more) {
  parts.insert(parts.end(), more.begin(), more.end());
}

// Of what all ranks have written of a file, one part after another. Together they must be the file.
std::vector<FileDigest> digests_of_all(const std::vector<FilePart>& mine,
                                       Communicator& communicator) {
  std::string text;
  for (const auto& [begin, digest] : mine) {
    text += fmt::format("{} {} {} ", begin, digest.bytes, digest.xxh3);
  }
  std::map<std::uint64_t, FileDigest> parts;
  for (const std::string& of_rank : communicator.gather(text)) {
    std::istringstream numbers(of_rank);
    std::uint64_t begin = 0;
    for (FileDigest digest; numbers >> begin >> digest.bytes >> digest.xxh3;) parts[begin] = digest;
  }
  std::vector<FileDigest> digests;
  std::uint64_t end = 0;
  for (const auto& [begin, digest] : parts) {
    if (begin != end)
      throw Error(ExitCode::internal, "[checkpoint] ranks have left a gap in a file");
    end += digest.bytes;
    digests.push_back(digest);
  }
  return digests;
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

std::map<std::string, std::string> metadata_of_model(const CheckpointData& data) {
  return model_metadata(data.config, data.precision, data.tokenizer);
}

// What is left when the tensors are there.
void write_state(const fs::path& folder, const CheckpointData& data, FileDigests files) {
  if (!data.options.empty()) {
    files[kOptionsFile] = {write_synced(folder / kOptionsFile, data.options)};
  }
  write_synced(folder / kStateFile, state_to_text({.config = data.config,
                                                   .precision = data.precision,
                                                   .tokenizer = data.tokenizer,
                                                   .train = data.state,
                                                   .plans = data.plans,
                                                   .files = std::move(files)}));
  sync_folder(folder);
}

// All bytes are handed to the system before it is asked to bring the first of them to the disk:
// until then nobody may change the tensors.
void write_files(const fs::path& folder, const CheckpointData& data, const SaveHooks& hooks) {
  SafetensorsWriter model =
      write_tensors(folder / kModelFile, hooks.read, data.model, metadata_of_model(data));
  SafetensorsWriter optimizer =
      write_tensors(folder / kOptimizerFile, hooks.read, data.optimizer, optimizer_metadata());
  hooks.all_read();
  write_state(folder, data,
              {{kModelFile, {model.finish()}}, {kOptimizerFile, {optimizer.finish()}}});
}

// The same by several ranks: the first begins the files, all write what they have, the first ends.
void write_files_together(const fs::path& folder, const CheckpointData& data,
                          const SaveHooks& hooks, Communicator& communicator) {
  const auto metadata = metadata_of_model(data);
  std::vector<FilePart> model, optimizer;
  do_together(communicator, [&] {
    if (!communicator.is_first()) return;
    model.push_back(begin_shared_file(folder / kModelFile, data.model, metadata));
    optimizer.push_back(
        begin_shared_file(folder / kOptimizerFile, data.optimizer, optimizer_metadata()));
  });
  do_together(communicator, [&] {
    append(model, write_shares(folder / kModelFile, hooks.read, data.model, metadata));
    append(optimizer,
           write_shares(folder / kOptimizerFile, hooks.read, data.optimizer, optimizer_metadata()));
  });
  hooks.all_read();
  FileDigests files = {{kModelFile, digests_of_all(model, communicator)},
                       {kOptimizerFile, digests_of_all(optimizer, communicator)}};
  do_together(communicator, [&] {
    if (communicator.is_first()) write_state(folder, data, std::move(files));
  });
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
                                         const SaveHooks& hooks, Communicator& communicator) {
  const fs::path checkpoints = run_folder / kCheckpointsFolder;
  const fs::path final = checkpoints / step_name(data.state.step);
  const fs::path partial = partial_name(final);
  const bool is_first = communicator.is_first();
  std::vector<std::string> remarks;
  std::error_code why;
  do_together(communicator, [&] {
    if (!is_first) return;
    make_checkpoints_folder(run_folder, checkpoints);
    remove_leftovers(checkpoints, partial, remarks);
    require_space(checkpoints, data);
    if (!fs::create_directory(partial, why) && why) fail_storage(partial, "create", why);
  });
  try {
    if (communicator.is_alone()) {
      write_files(partial, data, hooks);
    } else {
      write_files_together(partial, data, hooks, communicator);
    }
    do_together(communicator, [&] {
      if (!is_first) return;
      hooks.before_commit();
      exchange_names(partial, final, removed_name(final));
    });
  } catch (...) {
    if (is_first) fs::remove_all(partial, why);  // the error that matters is on its way
    throw;
  }
  do_together(communicator, [&] {
    if (is_first) sync_folder(checkpoints);
  });
  if (!is_first) return {};
  remarks.clear();                             // what is still there is told of once
  remove_leftovers(checkpoints, {}, remarks);  // the checkpoint that this one has replaced too
  return remarks;
}

std::vector<std::string> save_checkpoint(const fs::path& run_folder, Backend& backend,
                                         const CheckpointData& data) {
  return save_checkpoint(run_folder, data, {.read = download(backend), .all_read = [] {}});
}

}  // namespace lathe
