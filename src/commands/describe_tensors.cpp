// Descriptions of tensors: safetensors files, checkpoints and models of other programs.
#include <algorithm>
#include <optional>
#include <span>

#include "describe.h"
#include "lathe/checkpoint.h"
#include "lathe/files.h"
#include "lathe/model_source.h"
#include "lathe/safetensors.h"
#include "model_files/hugging_face.h"
#include "model_files/llmc_model.h"
#include "model_files/tensor_statistics.h"
#include "run/checkpoint_state.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

Facts describe_tensor(const SafetensorsReader& reader, const TensorInfo& tensor) {
  Facts facts = {{"name", tensor.name},
                 {"type", safetensors_name(tensor.type)},
                 {"shape", tensor.shape},
                 {"elements", tensor.count()}};
  append_statistics(
      facts, tensor.type, tensor.end - tensor.begin,
      [&](std::uint64_t offset, std::span<std::byte> to) { reader.read(tensor, offset, to); });
  return facts;
}

template <class Value>
Facts facts_of(const Value& value) {
  if constexpr (std::is_same_v<Value, std::optional<double>>) {
    return value ? Facts(*value) : Facts(nullptr);
  } else if constexpr (HasFields<const Value>) {
    Facts facts;
    visit_fields(value, [&](const char* name, const auto& field, auto...) {
      facts[name] = facts_of(field);
    });
    return facts;
  } else {
    return value;
  }
}

// Of a model in whatever file.
Facts model_facts(const ModelInfo& info) {
  Facts facts = {{"kind", title(info.format)},
                 {"precision", info.precision},
                 {"tokenizer", info.tokenizer},
                 {"end_of_text", info.end_of_text ? Facts(*info.end_of_text) : Facts(nullptr)},
                 {"parameters", parameter_count(parameter_specs(info.config))}};
  if (!info.remarks.empty()) facts["remarks"] = info.remarks;
  facts["model"] = facts_of(info.config);
  return facts;
}

// Whether training of other programs has left something where no token is.
bool is_zero(const InputFile& file, std::uint64_t begin, std::uint64_t end) {
  constexpr std::uint64_t kPiece = 1 << 20;
  std::vector<std::byte> piece(std::min(kPiece, end - begin));
  for (std::uint64_t at = begin; at < end; at += kPiece) {
    const auto bytes = std::span(piece).first(std::min(kPiece, end - at));
    file.read(at, bytes);
    if (std::ranges::any_of(bytes, [](std::byte b) { return b != std::byte{0}; })) return false;
  }
  return true;
}

}  // namespace

Facts describe_safetensors(const fs::path& path) {
  const SafetensorsReader reader(path, ExitCode::data);
  Facts facts = {{"kind", "safetensors"}, {"bytes", fs::file_size(path)}};
  std::int64_t elements = 0;
  for (const TensorInfo& tensor : reader.tensors()) elements += tensor.count();
  facts["elements"] = elements;
  for (const auto& [name, value] : reader.metadata()) facts["metadata"][name] = value;
  facts["tensors"] = Facts::array();
  for (const TensorInfo& tensor : reader.tensors()) {
    facts["tensors"].push_back(describe_tensor(reader, tensor));
  }
  return facts;
}

Facts describe_checkpoint(const fs::path& folder) {
  const CheckpointInfo info = open_checkpoint(folder);
  const Facts model_file = describe_safetensors(info.folder / kModelFile);
  Facts facts = {{"kind", "checkpoint"},        {"folder", info.folder.string()},
                 {"checksums", "right"},        {"precision", info.precision},
                 {"tokenizer", info.tokenizer}, {"parameters", model_file.at("elements")}};
  facts["model"] = facts_of(info.config);
  facts["state"] = facts_of(info.state);
  for (const char* name : {kModelFile, kOptimizerFile, kStateFile}) {
    facts["file_bytes"][name] = fs::file_size(info.folder / name);
  }
  facts["tensors"] = model_file.at("tensors");
  return facts;
}

Facts describe_hugging_face_model(const fs::path& folder) {
  Facts facts = model_facts(open_hugging_face_model(folder)->info());
  facts["tokenizer_files"] = tokenizer_files(folder);
  facts["tensors"] = Facts::array();
  for (const fs::path& path : tensor_files(folder)) {
    facts["file_bytes"][path.filename().string()] = fs::file_size(path);
    const SafetensorsReader reader(path, ExitCode::checkpoint);
    for (const TensorInfo& tensor : reader.tensors()) {
      facts["tensors"].push_back(describe_tensor(reader, tensor));
    }
  }
  return facts;
}

Facts describe_llmc_model(const fs::path& path) {
  Facts facts = model_facts(open_llmc_model(path)->info());
  const InputFile file(path, ExitCode::checkpoint);
  const LlmcHeader header = read_llmc_header(file);
  const std::vector<ParameterSpec> specs = parameter_specs(header.model);
  const StoredType type = stored_type(header.type);
  facts["bytes"] = file.size();
  facts["padded_vocab"] = header.padded_vocab;
  for (const LlmcTensor& tensor : llmc_tensors(header, specs)) {
    std::uint64_t bytes = 0;
    for (const auto& [spec, begin] : tensor.parts) {
      bytes += static_cast<std::uint64_t>(spec->count() * size_of(type));
    }
    if (facts["tensors"].empty()) {
      facts["padding_is_zero"] = is_zero(file, tensor.begin + bytes, tensor.end);
    }
    Facts row = {{"name", tensor.name},
                 {"type", safetensors_name(type)},
                 {"shape", tensor.shape},
                 {"elements", bytes / static_cast<std::uint64_t>(size_of(type))}};
    append_statistics(row, type, bytes, [&](std::uint64_t offset, std::span<std::byte> to) {
      file.read(tensor.begin + offset, to);
    });
    facts["tensors"].push_back(row);
  }
  return facts;
}

}  // namespace lathe
