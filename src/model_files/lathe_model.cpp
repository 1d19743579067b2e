#include "lathe_model.h"

#include <fmt/format.h>

#include <charconv>

#include "lathe/error.h"
#include "lathe/safetensors.h"
#include "refuse_file.h"
#include "run/checkpoint_state.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

constexpr const char* kEndOfText = "end_of_text";  // in the metadata, where it is known

class LatheModel final : public ModelSource {
 public:
  // Each parameter is the tensor `prefix` + its name.
  LatheModel(ModelInfo info, SafetensorsReader reader, std::string prefix)
      : ModelSource(std::move(info)), reader_(std::move(reader)), prefix_(std::move(prefix)) {
    for (const ParameterSpec& spec : parameter_specs(this->info().config)) check(spec);
  }

  void read(const ParameterRows& rows, DType type, std::span<std::byte> to) const override {
    const TensorInfo& tensor = *reader_.find(prefix_ + rows.spec->name);
    const std::int64_t row_bytes = rows.spec->count() / rows.spec->shape[0] * size_of(tensor.type);
    std::vector<std::byte> stored(static_cast<std::size_t>(rows.count * row_bytes));
    reader_.read(tensor, static_cast<std::uint64_t>(rows.first * row_bytes), stored);
    convert_elements(tensor.type, stored, type, to);
  }

 private:
  void check(const ParameterSpec& spec) const {
    const std::string name = prefix_ + spec.name;
    const TensorInfo* tensor = reader_.find(name);
    if (tensor == nullptr) refuse(reader_.path(), fmt::format("has no tensor \"{}\"", name));
    if (tensor->shape != spec.shape) {
      refuse(reader_.path(), fmt::format("tensor \"{}\" is {}, the model's is {}", name,
                                         shape_string(tensor->shape), shape_string(spec.shape)));
    }
    if (!converts(tensor->type, DType::fp32)) {
      refuse(reader_.path(), fmt::format("tensor \"{}\" is {}, must be F32, BF16 or F16", name,
                                         safetensors_name(tensor->type)));
    }
  }

  SafetensorsReader reader_;
  std::string prefix_;
};

std::unique_ptr<ModelSource> open_checkpoint_model(const fs::path& path, Weights weights) {
  const CheckpointInfo checkpoint = open_checkpoint(path);
  const bool has_masters = checkpoint.precision == "bf16" && weights == Weights::master;
  ModelInfo info{.format = ModelFormat::lathe,
                 .path = checkpoint.folder,
                 .config = checkpoint.config,
                 .precision = has_masters ? "fp32" : checkpoint.precision,
                 .tokenizer = checkpoint.tokenizer,
                 .end_of_text = std::nullopt,
                 .begin_of_text = std::nullopt,
                 .step = checkpoint.state.step,
                 .remarks = {}};
  assume_gpt2_tokens(info);
  return std::make_unique<LatheModel>(
      std::move(info),
      SafetensorsReader(checkpoint.folder / (has_masters ? kOptimizerFile : kModelFile),
                        ExitCode::checkpoint),
      has_masters ? "master." : "");
}

// The metadata of a file that Lathe wrote: docs/formats.md.
ModelInfo read_metadata(const SafetensorsReader& reader) {
  const auto text = [&](const std::string& key) {
    const auto found = reader.metadata().find(key);
    if (found == reader.metadata().end()) {
      refuse(reader.path(), fmt::format("no model of Lathe: its metadata has no \"{}\"", key));
    }
    return found->second;
  };
  if (text("format") != "lathe") {
    refuse(reader.path(), "not written by Lathe; of a Hugging Face model name the folder");
  }
  ModelInfo info{.format = ModelFormat::lathe,
                 .path = reader.path(),
                 .config = {},
                 .precision = text("precision"),
                 .tokenizer = usable_tokenizer(text("tokenizer"), reader.path().parent_path()),
                 .end_of_text = std::nullopt,
                 .begin_of_text = std::nullopt,
                 .step = std::nullopt,
                 .remarks = {}};
  const auto number = [&](const char* name) {
    std::int64_t value = 0;
    const std::string digits = text(name);
    const char* end = digits.data() + digits.size();
    const auto [parsed, error] = std::from_chars(digits.data(), end, value);
    if (error != std::errc() || parsed != end) {
      refuse(reader.path(), fmt::format("metadata \"{}\" must be a whole number", name));
    }
    return value;
  };
  visit_fields(info.config, [&](const char* name, std::int64_t& value) { value = number(name); });
  if (info.precision != "fp32" && info.precision != "bf16") {
    refuse(reader.path(), "metadata \"precision\" must be fp32 or bf16");
  }
  if (const auto problem = find_size_problem(info.config, {})) {
    refuse(reader.path(), fmt::format("metadata {}", *problem));
  }
  if (reader.metadata().contains(kEndOfText)) {
    info.end_of_text = number(kEndOfText);
    if (*info.end_of_text < 0 || *info.end_of_text >= info.config.vocab) {
      refuse(reader.path(), fmt::format("metadata \"{}\" is {}, must be a token from 0 to {}",
                                        kEndOfText, *info.end_of_text, info.config.vocab - 1));
    }
  }
  assume_gpt2_tokens(info);
  return info;
}

}  // namespace

std::unique_ptr<ModelSource> open_lathe_model(const fs::path& path, Weights weights) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) return open_checkpoint_model(path, weights);
  SafetensorsReader reader(path, ExitCode::checkpoint);
  ModelInfo info = read_metadata(reader);
  return std::make_unique<LatheModel>(std::move(info), std::move(reader), "");
}

void write_lathe_model(const ModelSource& source, DType type, const fs::path& path) {
  const ModelInfo& info = source.info();
  const std::vector<ParameterSpec> specs = parameter_specs(info.config);
  std::vector<TensorEntry> entries;
  for (const ParameterSpec& spec : specs) {
    entries.push_back({.name = spec.name, .type = type, .shape = spec.shape});
  }
  const bool is_path = info.tokenizer.find('/') != info.tokenizer.npos;
  auto metadata = model_metadata(
      info.config, type == DType::bf16 ? "bf16" : "fp32",
      is_path ? fs::absolute(info.tokenizer).lexically_normal().string() : info.tokenizer);
  if (info.end_of_text) metadata[kEndOfText] = fmt::to_string(*info.end_of_text);
  SafetensorsWriter writer(path, entries, metadata);
  std::vector<std::byte> piece;
  for (const ParameterSpec& spec : specs) {
    for_each_rows(spec, [&](const ParameterRows& rows) {
      piece.resize(static_cast<std::size_t>(rows.elements() * size_of(type)));
      source.read(rows, type, piece);
      writer.append(piece);
    });
  }
  writer.finish();
}

}  // namespace lathe
