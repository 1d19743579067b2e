// GPT-2 as Hugging Face's transformers has it: a folder with config.json, safetensors and, mostly,
// tokenizer files. Its names and layouts follow from Lathe's list of parameters.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "lathe/model_config.h"
#include "lathe/model_source.h"

namespace lathe {

inline constexpr const char* kHuggingFaceConfig = "config.json";
inline constexpr const char* kHuggingFaceGeneration = "generation_config.json";
inline constexpr const char* kHuggingFaceModel = "model.safetensors";
inline constexpr const char* kHuggingFaceIndex = "model.safetensors.index.json";  // of several
// What save_pretrained puts before the names; the Hub's files of GPT-2 have nothing there.
inline constexpr std::string_view kHuggingFacePrefix = "transformer.";

struct HuggingFaceTensor {
  std::string name;    // without prefix: "h.3.attn.c_attn.weight"
  bool is_transposed;  // (in, out), of a Conv1D, where Lathe has (out, in)
};
HuggingFaceTensor hugging_face_tensor(const ParameterSpec& spec);

// Shape in the file.
std::vector<std::int64_t> hugging_face_shape(const ParameterSpec& spec);

// The safetensors files of a folder, of which there are several when it has an index.
std::vector<std::filesystem::path> tensor_files(const std::filesystem::path& folder);

// Tokenizer files that lie in the folder. They may be its settings alone.
std::vector<std::string> tokenizer_files(const std::filesystem::path& folder);
bool has_tokenizer(const std::filesystem::path& folder);

// The first entry of the folder, by name, that no export of a model has; "": each is a file of the
// kinds that save_pretrained writes. Errors: storage.
std::string find_foreign_entry(const std::filesystem::path& folder);

// Whether the folder's config.json is that of a model, of any kind.
bool has_model_config(const std::filesystem::path& folder);

// Errors: checkpoint.
std::unique_ptr<ModelSource> open_hugging_face_model(const std::filesystem::path& folder);

// Fills a folder that exists with model.safetensors, config.json, generation_config.json and
// tokenizer files, those of the source where it has some. Returns lines for the user.
// Errors: storage, and those of the source.
std::vector<std::string> write_hugging_face_model(const ModelSource& source, DType type,
                                                  const std::filesystem::path& folder);

}  // namespace lathe
