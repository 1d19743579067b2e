#include "lathe/checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <system_error>
#include <utility>

#include "checkpoint_names.h"
#include "checkpoint_state.h"
#include "lathe/error.h"
#include "lathe/files.h"
#include "lathe/stop_signal.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void refuse(const fs::path& path, const std::string& message) {
  throw Error(ExitCode::checkpoint, fmt::format("{}: {}", path.string(), message));
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

void verify_digests(const InputFile& file, const std::vector<FileDigest>& parts) {
  if (file.size() != bytes_of(parts)) {
    refuse(file.path(), fmt::format("{} bytes, {} says {}: truncated or replaced", file.size(),
                                    kStateFile, bytes_of(parts)));
  }
  std::uint64_t begin = 0;
  for (const FileDigest& expected : parts) {
    const FileDigest found = digest_part(file, begin, expected.bytes);
    begin += expected.bytes;
    if (found == expected) continue;
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
  if (const auto step = step_of_name(folder); step && *step != state.train.step) {
    refuse(folder, fmt::format("{} is of step {}, its folder should be {}", kStateFile,
                               state.train.step, step_name(state.train.step)));
  }
  for (const auto& [name, parts] : state.files) {
    verify_digests(InputFile(folder / name, ExitCode::checkpoint), parts);
  }
  for (const char* name : {kModelFile, kOptimizerFile}) verify_tensors(folder / name, state);
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

std::vector<fs::path> list_checkpoints(const fs::path& run_folder) {
  std::map<std::int64_t, fs::path> by_step;
  for (const fs::path& path : entries(run_folder / kCheckpointsFolder)) {
    if (const auto step = step_of_name(path)) by_step[*step] = path;
  }
  std::vector<fs::path> paths;
  for (auto& [step, path] : by_step) paths.push_back(std::move(path));
  return paths;
}

CheckpointInfo open_checkpoint(const fs::path& path, std::vector<std::string>* problems) {
  std::error_code ignored;
  if (!fs::is_directory(path, ignored)) {
    refuse(path, fs::exists(path, ignored) ? "is a file, must be a checkpoint or run folder"
                                           : "no such checkpoint or run folder");
  }
  if (!fs::is_directory(path / kCheckpointsFolder, ignored)) return open_folder(path);
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

std::optional<fs::path> options_of_checkpoint(const fs::path& folder) {
  try {
    const CheckpointState state = read_state(folder / kStateFile);
    const auto parts = state.files.find(kOptionsFile);
    if (parts == state.files.end()) return std::nullopt;
    verify_digests(InputFile(folder / kOptionsFile, ExitCode::checkpoint), parts->second);
    return folder / kOptionsFile;
  } catch (const Error&) {
    return std::nullopt;  // open_checkpoint says why
  }
}

void load_checkpoint(const CheckpointInfo& info, Backend& backend,
                     std::span<const NamedTensor> model, std::span<const NamedTensor> optimizer) {
  load_file(info.folder / kModelFile, backend, model);
  if (!optimizer.empty()) load_file(info.folder / kOptimizerFile, backend, optimizer);
}

}  // namespace lathe
