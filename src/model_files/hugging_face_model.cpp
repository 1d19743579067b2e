// Reading: which file holds which tensor, and whether they are those of the model that config.json
// describes. Whatever is there beside them and is not known to be harmless is refused.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "base/strict_json.h"
#include "hugging_face.h"
#include "hugging_face_config.h"
#include "lathe/error.h"
#include "lathe/files.h"
#include "lathe/safetensors.h"
#include "refuse_file.h"
#include "transpose.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kHead = "lm_head.weight";

bool is_here(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

// A text whose size is looked at before its memory is taken.
std::string read_text(const fs::path& path, std::uint64_t most_bytes) {
  const InputFile file(path, ExitCode::checkpoint);
  if (file.size() > most_bytes) {
    refuse(path, fmt::format("{} bytes, must be at most {}", file.size(), most_bytes));
  }
  return read_file(path, ExitCode::checkpoint);
}

// The tensors of a folder, from one file or from several that an index lists.
class TensorFiles {
 public:
  explicit TensorFiles(const fs::path& folder) : folder_(folder) {
    if (is_here(folder / kHuggingFaceModel)) {
      add(kHuggingFaceModel);
    } else if (is_here(folder / kHuggingFaceIndex)) {
      add_indexed();
    } else {
      refuse(folder, is_here(folder / "pytorch_model.bin")
                         ? "has pytorch_model.bin only; Lathe reads model.safetensors, which "
                           "save_pretrained(..., safe_serialization=True) writes"
                         : fmt::format("has no {}", kHuggingFaceModel));
    }
  }

  struct Entry {
    std::size_t file;
    TensorInfo tensor;
  };
  const Entry* find(std::string_view name) const {
    const auto found = entries_.find(name);
    return found == entries_.end() ? nullptr : &found->second;
  }
  const std::map<std::string, Entry, std::less<>>& entries() const { return entries_; }
  const SafetensorsReader& reader(const Entry& entry) const { return readers_[entry.file]; }
  std::vector<fs::path> paths() const {
    std::vector<fs::path> paths;
    for (const SafetensorsReader& reader : readers_) paths.push_back(reader.path());
    return paths;
  }

 private:
  void add(const std::string& name) {
    readers_.emplace_back(folder_ / name, ExitCode::checkpoint);
    for (const TensorInfo& tensor : readers_.back().tensors()) {
      if (entries_.emplace(tensor.name, Entry{readers_.size() - 1, tensor}).second) continue;
      refuse(folder_ / name, fmt::format("tensor {} is in another file too", quote(tensor.name)));
    }
  }

  void add_indexed() {
    constexpr std::uint64_t kMostBytes = 16 << 20;
    const fs::path path = folder_ / kHuggingFaceIndex;
    const auto root = parse_json(read_text(path, kMostBytes), path.string(), ExitCode::checkpoint);
    if (!root.is_object() || !root.contains("weight_map") || !root["weight_map"].is_object()) {
      refuse(path, "must be an object with a \"weight_map\" from tensors to files");
    }
    std::map<std::string, std::size_t> files;
    for (const auto& [tensor, value] : root["weight_map"].items()) {
      const std::string name = value.is_string() ? value.get<std::string>() : "";
      if (!name.ends_with(".safetensors") || name.find('/') != name.npos) {
        refuse(path, fmt::format("tensor {} must be in a .safetensors file of this folder",
                                 quote(tensor)));
      }
      if (files.emplace(name, files.size()).second) add(name);
      if (const Entry* entry = find(tensor); entry == nullptr || entry->file != files.at(name)) {
        refuse(folder_ / name,
               fmt::format("has no tensor {}, {} says it has", quote(tensor), kHuggingFaceIndex));
      }
    }
  }

  fs::path folder_;
  std::vector<SafetensorsReader> readers_;
  std::map<std::string, Entry, std::less<>> entries_;
};

class HuggingFaceModel final : public ModelSource {
 public:
  HuggingFaceModel(ModelInfo info, TensorFiles files, std::string prefix)
      : ModelSource(std::move(info)), files_(std::move(files)), prefix_(std::move(prefix)) {}

  void read(const ParameterRows& rows, DType type, std::span<std::byte> to) const override {
    const HuggingFaceTensor theirs = hugging_face_tensor(*rows.spec);
    const TensorFiles::Entry& entry = *files_.find(prefix_ + theirs.name);
    const std::int64_t element = size_of(entry.tensor.type);
    const std::int64_t row = rows.spec->count() / rows.spec->shape[0];
    std::vector<std::byte> stored(static_cast<std::size_t>(rows.elements() * element));
    if (!theirs.is_transposed) {
      files_.reader(entry).read(entry.tensor,
                                static_cast<std::uint64_t>(rows.first * row * element), stored);
    } else {
      read_columns(entry, rows, stored);
    }
    convert_elements(entry.tensor.type, stored, type, to);
  }

 private:
  // Our rows are columns of the file's (in, out).
  void read_columns(const TensorFiles::Entry& entry, const ParameterRows& rows,
                    std::span<std::byte> to) const {
    const std::int64_t out = rows.spec->shape[0], in = rows.spec->shape[1];
    const std::int64_t element = size_of(entry.tensor.type);
    const std::int64_t strip = rows.count * element;  // bytes
    std::vector<std::byte> columns(to.size());
    const std::int64_t at_once = rows.count == out ? in : 1;  // file rows that lie side by side
    for (std::int64_t i = 0; i < in; i += at_once) {
      files_.reader(entry).read(
          entry.tensor, static_cast<std::uint64_t>((i * out + rows.first) * element),
          std::span(columns).subspan(static_cast<std::size_t>(i * strip),
                                     static_cast<std::size_t>(at_once * strip)));
    }
    transpose(columns, in, rows.count, element, to);
  }

  TensorFiles files_;
  std::string prefix_;
};

// Checks every parameter's tensor; returns the narrowest type that holds them all.
std::string check_parameters(const TensorFiles& files, const std::vector<ParameterSpec>& specs,
                             const std::string& prefix, const fs::path& folder) {
  bool is_bf16 = true;
  for (const ParameterSpec& spec : specs) {
    const std::string name = prefix + hugging_face_tensor(spec).name;
    const auto* entry = files.find(name);
    if (entry == nullptr) refuse(folder, fmt::format("has no tensor {}", quote(name)));
    const fs::path& path = files.reader(*entry).path();
    const TensorInfo& tensor = entry->tensor;
    if (tensor.shape != hugging_face_shape(spec)) {
      refuse(path,
             fmt::format("tensor {} is {}, {} makes it {}", quote(name), shape_string(tensor.shape),
                         kHuggingFaceConfig, shape_string(hugging_face_shape(spec))));
    }
    if (!converts(tensor.type, DType::fp32)) {
      refuse(path, fmt::format("tensor {} is {}, must be F32, BF16 or F16", quote(name),
                               safetensors_name(tensor.type)));
    }
    is_bf16 = is_bf16 && tensor.type == StoredType::bf16;
  }
  return is_bf16 ? "bf16" : "fp32";
}

// Beside the parameters there may be the causal masks that older versions saved, and the head.
void refuse_others(const TensorFiles& files, const ModelConfig& config,
                   const std::vector<ParameterSpec>& specs, const std::string& prefix) {
  std::set<std::string> known = {std::string(kHead)};
  for (const ParameterSpec& spec : specs) known.insert(prefix + hugging_face_tensor(spec).name);
  for (std::int64_t layer = 0; layer < config.layers; ++layer) {
    known.insert(fmt::format("{}h.{}.attn.bias", prefix, layer));
    known.insert(fmt::format("{}h.{}.attn.masked_bias", prefix, layer));
  }
  for (const auto& [name, entry] : files.entries()) {
    if (known.contains(name)) continue;
    refuse(files.reader(entry).path(),
           fmt::format("tensor {} belongs to no part of the model", quote(name)));
  }
}

bool same_bytes(const TensorFiles& files, const TensorFiles::Entry& a,
                const TensorFiles::Entry& b) {
  constexpr std::uint64_t kPiece = 1 << 20;
  const std::uint64_t bytes = a.tensor.end - a.tensor.begin;
  if (a.tensor.type != b.tensor.type || a.tensor.shape != b.tensor.shape) return false;
  std::vector<std::byte> one(std::min(kPiece, bytes)), other(one.size());
  for (std::uint64_t at = 0; at < bytes; at += kPiece) {
    const std::size_t size = std::min(kPiece, bytes - at);
    files.reader(a).read(a.tensor, at, std::span(one).first(size));
    files.reader(b).read(b.tensor, at, std::span(other).first(size));
    if (!std::equal(one.begin(), one.begin() + static_cast<std::ptrdiff_t>(size), other.begin())) {
      return false;
    }
  }
  return true;
}

void check_head(const TensorFiles& files, bool is_tied, const std::string& embedding,
                const fs::path& folder) {
  const auto* head = files.find(kHead);
  if (head == nullptr) {
    if (is_tied) return;
    refuse(folder / kHuggingFaceConfig,
           fmt::format("\"tie_word_embeddings\" is false, and there is no \"{}\"", kHead));
  }
  if (same_bytes(files, *head, *files.find(embedding))) return;
  refuse(files.reader(*head).path(),
         fmt::format("tensor \"{}\" is not \"{}\": Lathe's output head is the token embedding",
                     kHead, embedding));
}

}  // namespace

std::vector<fs::path> tensor_files(const fs::path& folder) {
  return TensorFiles(folder).paths();
}

std::unique_ptr<ModelSource> open_hugging_face_model(const fs::path& folder) {
  constexpr std::uint64_t kMostBytes = 1 << 20;
  const fs::path config_path = folder / kHuggingFaceConfig;
  const HuggingFaceConfig config =
      parse_hugging_face_config(read_text(config_path, kMostBytes), config_path.string());
  TensorFiles files(folder);
  const std::vector<ParameterSpec> specs = parameter_specs(config.model);
  const std::string embedding = hugging_face_tensor(specs.front()).name;
  std::string prefix(kHuggingFacePrefix);
  if (files.find(prefix + embedding) == nullptr && files.find(embedding) != nullptr) prefix.clear();
  ModelInfo info{.format = ModelFormat::hugging_face,
                 .path = folder,
                 .config = config.model,
                 .precision = check_parameters(files, specs, prefix, folder),
                 .tokenizer = has_tokenizer(folder)
                                  ? fs::absolute(folder).lexically_normal().string()
                                  : "none",
                 .end_of_text = config.end_of_text,
                 .begin_of_text = config.begin_of_text,
                 .step = std::nullopt,
                 .remarks = config.remarks};
  assume_gpt2_tokens(info);
  refuse_others(files, config.model, specs, prefix);
  check_head(files, config.ties_head, prefix + embedding, folder);
  return std::make_unique<HuggingFaceModel>(std::move(info), std::move(files), std::move(prefix));
}

}  // namespace lathe
