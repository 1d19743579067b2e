#include "lathe/checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <system_error>
#include <utility>

#include "checkpoint_state.h"
#include "lathe/error.h"
#include "lathe/files.h"
#include "lathe/stop_signal.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFolder = "checkpoints";
constexpr std::string_view kStepPrefix = "step-";
// Names that no reader looks at: being written, and being deleted.
constexpr std::string_view kPartialPrefix = ".partial-";
constexpr std::string_view kRemovedPrefix = ".removed-";

[[noreturn]] void refuse(const fs::path& path, const std::string& message) {
  throw Error(ExitCode::checkpoint, fmt::format("{}: {}", path.string(), message));
}

[[noreturn]] void fail_storage(const fs::path& path, const char* action,
                               const std::error_code& why) {
  throw Error(ExitCode::storage,
              fmt::format("{}: cannot {}: {}", path.string(), action, why.message()));
}

void remove_folder(const fs::path& folder) {
  std::error_code why;
  fs::remove_all(folder, why);
  if (why) fail_storage(folder, "remove", why);
}

std::string step_name(std::int64_t step) {
  return fmt::format("{}{:08}", kStepPrefix, step);
}

fs::path partial_name(const fs::path& checkpoint) {
  return checkpoint.parent_path() /
         fmt::format("{}{}", kPartialPrefix, checkpoint.filename().string());
}
fs::path removed_name(const fs::path& checkpoint) {
  return checkpoint.parent_path() /
         fmt::format("{}{}", kRemovedPrefix, checkpoint.filename().string());
}

// The step in a checkpoint folder's name; nullopt for any other name.
std::optional<std::int64_t> step_of(const fs::path& folder) {
  const std::string name = folder.filename().string();
  std::int64_t step = 0;
  if (!name.starts_with(kStepPrefix)) return std::nullopt;
  std::from_chars(name.data() + kStepPrefix.size(), name.data() + name.size(), step);
  if (name != step_name(step)) return std::nullopt;
  return step;
}

// Entries of a folder; none when it does not exist.
std::vector<fs::path> entries(const fs::path& folder) {
  std::vector<fs::path> paths;
  std::error_code why;
  fs::directory_iterator at(folder, why);
  for (; !why && at != fs::directory_iterator(); at.increment(why)) paths.push_back(at->path());
  if (why && why != std::errc::no_such_file_or_directory && why != std::errc::not_a_directory) {
    refuse(folder, "cannot list: " + why.message());
  }
  return paths;
}

void remove_leftovers(const fs::path& checkpoints) {
  for (const fs::path& path : entries(checkpoints)) {
    const std::string name = path.filename().string();
    if (name.starts_with(kPartialPrefix) || name.starts_with(kRemovedPrefix)) remove_folder(path);
  }
}

void write_state(const fs::path& folder, const CheckpointState& state) {
  OutputFile file(folder / kStateFile);
  file.write(state_to_text(state));
  file.sync();
  file.close();
}

// Name, shape and type of every tensor that a whole checkpoint has in one of its files.
std::vector<TensorInfo> expected_tensors(const CheckpointState& state, std::string_view file) {
  const StoredType compute = state.precision == "bf16" ? StoredType::bf16 : StoredType::fp32;
  std::vector<std::string> prefixes = {""};
  if (file == kOptimizerFile) prefixes = {"m.", "v."};
  if (file == kOptimizerFile && compute == StoredType::bf16) prefixes.emplace_back("master.");
  std::vector<TensorInfo> expected;
  for (const ParameterSpec& spec : parameter_specs(state.config)) {
    for (const std::string& prefix : prefixes) {
      expected.push_back({.name = prefix + spec.name,
                          .type = file == kOptimizerFile ? StoredType::fp32 : compute,
                          .shape = spec.shape,
                          .begin = 0,
                          .end = 0});
    }
  }
  return expected;
}

// The file must hold `names` and nothing else.
void require_names(const SafetensorsReader& reader, std::vector<std::string> names) {
  std::sort(names.begin(), names.end());
  for (const std::string& name : names) {
    if (reader.find(name) == nullptr)
      refuse(reader.path(), fmt::format("has no tensor \"{}\"", name));
  }
  for (const TensorInfo& tensor : reader.tensors()) {
    if (std::binary_search(names.begin(), names.end(), tensor.name)) continue;
    refuse(reader.path(),
           fmt::format("tensor \"{}\" belongs to no part of the model", tensor.name));
  }
}

void verify_digest(const InputFile& file, const FileDigest& expected) {
  if (file.size() != expected.bytes) {
    refuse(file.path(), fmt::format("{} bytes, {} says {}: truncated or replaced", file.size(),
                                    kStateFile, expected.bytes));
  }
  if (const FileDigest found = digest_file(file); found != expected) {
    refuse(file.path(), fmt::format("checksum {:016x}, {} says {:016x}: damaged", found.xxh3,
                                    kStateFile, expected.xxh3));
  }
}

void verify_tensors(const fs::path& path, const CheckpointState& state) {
  const SafetensorsReader reader(path, ExitCode::checkpoint);
  const auto expected = expected_tensors(state, path.filename().string());
  std::vector<std::string> names;
  for (const TensorInfo& tensor : expected) names.push_back(tensor.name);
  require_names(reader, std::move(names));
  for (const TensorInfo& right : expected) {
    const TensorInfo& found = *reader.find(right.name);
    if (found.shape == right.shape && found.type == right.type) continue;
    refuse(path, fmt::format("tensor \"{}\" is {} {}, {} makes it {} {}", right.name,
                             safetensors_name(found.type), shape_string(found.shape), kStateFile,
                             safetensors_name(right.type), shape_string(right.shape)));
  }
}

CheckpointInfo open_folder(const fs::path& folder) {
  const CheckpointState state = read_state(folder / kStateFile);
  if (const auto step = step_of(folder); step && *step != state.train.step) {
    refuse(folder, fmt::format("{} is of step {}, its folder should be {}", kStateFile,
                               state.train.step, step_name(state.train.step)));
  }
  for (const auto& [name, digest] : state.files) {
    verify_digest(InputFile(folder / name, ExitCode::checkpoint), digest);
  }
  for (const auto& [name, digest] : state.files) verify_tensors(folder / name, state);
  return {.folder = folder,
          .config = state.config,
          .precision = state.precision,
          .tokenizer = usable_tokenizer(state.tokenizer, folder),
          .state = state.train,
          .plans = state.plans};
}

void load_file(const fs::path& path, Backend& backend, std::span<const NamedTensor> tensors) {
  const SafetensorsReader reader(path, ExitCode::checkpoint);
  std::vector<std::string> names;
  for (const NamedTensor& tensor : tensors) names.push_back(tensor.name);
  require_names(reader, std::move(names));
  for (const NamedTensor& tensor : tensors) {
    require_no_stop(path.string());
    load_tensor(reader, backend, tensor);
  }
}

}  // namespace

void save_checkpoint(const fs::path& run_folder, Backend& backend, const CheckpointData& data) {
  const fs::path checkpoints = run_folder / kFolder;
  const fs::path final = checkpoints / step_name(data.state.step);
  const fs::path partial = partial_name(final);
  std::error_code why;
  if (fs::create_directories(checkpoints, why)) {
    sync_folder(run_folder);
    sync_folder(run_folder.parent_path());
  }
  if (why) fail_storage(checkpoints, "create", why);
  remove_leftovers(checkpoints);
  try {
    if (!fs::create_directory(partial, why) && why) fail_storage(partial, "create", why);
    CheckpointState state{.config = data.config,
                          .precision = data.precision,
                          .tokenizer = data.tokenizer,
                          .train = data.state,
                          .plans = data.plans,
                          .files = {}};
    state.files[kModelFile] =
        write_safetensors(partial / kModelFile, backend, data.model,
                          model_metadata(data.config, data.precision, data.tokenizer));
    state.files[kOptimizerFile] =
        write_safetensors(partial / kOptimizerFile, backend, data.optimizer, {{"format", "lathe"}});
    write_state(partial, state);
    sync_folder(partial);
    publish(partial, final, removed_name(final));
  } catch (...) {
    fs::remove_all(partial, why);  // give the space back; the error that matters is on its way
    throw;
  }
  remove_leftovers(checkpoints);  // the checkpoint that this one has replaced
}

std::vector<fs::path> list_checkpoints(const fs::path& run_folder) {
  std::map<std::int64_t, fs::path> by_step;
  for (const fs::path& path : entries(run_folder / kFolder)) {
    if (const auto step = step_of(path)) by_step[*step] = path;
  }
  std::vector<fs::path> paths;
  for (auto& [step, path] : by_step) paths.push_back(std::move(path));
  return paths;
}

void prune_checkpoints(const fs::path& run_folder, std::int64_t keep) {
  const std::vector<fs::path> paths = list_checkpoints(run_folder);
  if (keep <= 0 || std::cmp_less_equal(paths.size(), keep)) return;
  for (const fs::path& path :
       std::span(paths).first(paths.size() - static_cast<std::size_t>(keep))) {
    // Half a checkpoint must not be seen: it gives up its name before the first file goes.
    std::error_code why;
    fs::rename(path, removed_name(path), why);
    if (why) fail_storage(path, "rename", why);
    remove_folder(removed_name(path));
  }
  sync_folder(run_folder / kFolder);
}

std::vector<fs::path> set_aside_checkpoints(const fs::path& run_folder, std::int64_t step) {
  std::vector<fs::path> renamed;
  for (const fs::path& path : list_checkpoints(run_folder)) {
    if (*step_of(path) <= step) continue;
    fs::path to;
    for (int i = 0; to.empty() || fs::exists(to); ++i) {
      to = path.parent_path() / fmt::format("set-aside-{}-{}", i, path.filename().string());
    }
    std::error_code why;
    fs::rename(path, to, why);
    if (why) fail_storage(path, "rename", why);
    renamed.push_back(to);
  }
  if (!renamed.empty()) sync_folder(run_folder / kFolder);
  return renamed;
}

CheckpointInfo open_checkpoint(const fs::path& path, std::vector<std::string>* problems) {
  std::error_code ignored;
  if (!fs::is_directory(path, ignored)) {
    refuse(path, fs::exists(path, ignored) ? "is a file, must be a checkpoint or run folder"
                                           : "no such checkpoint or run folder");
  }
  if (!fs::is_directory(path / kFolder, ignored)) return open_folder(path);
  std::vector<std::string> found;
  std::vector<std::string>& lines = problems == nullptr ? found : *problems;
  const std::size_t before = lines.size();
  if (auto info = newest_checkpoint(path, &lines)) return *std::move(info);
  if (lines.size() == before) refuse(path, "has no checkpoint yet");
  refuse(path, fmt::format("no checkpoint is whole; the newest: {}", lines[before]));
}

std::optional<CheckpointInfo> newest_checkpoint(const fs::path& run_folder,
                                                std::vector<std::string>* problems) {
  std::vector<fs::path> paths = list_checkpoints(run_folder);
  std::reverse(paths.begin(), paths.end());
  for (const fs::path& path : paths) {
    try {
      return open_folder(path);
    } catch (const Error& error) {
      if (problems != nullptr) problems->emplace_back(error.what());
    }
  }
  return std::nullopt;
}

void load_checkpoint(const CheckpointInfo& info, Backend& backend,
                     std::span<const NamedTensor> model, std::span<const NamedTensor> optimizer) {
  load_file(info.folder / kModelFile, backend, model);
  if (!optimizer.empty()) load_file(info.folder / kOptimizerFile, backend, optimizer);
}

}  // namespace lathe
