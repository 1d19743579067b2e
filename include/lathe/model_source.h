// Models in files, whoever wrote them: checkpoints and .safetensors of Lathe, folders of Hugging
// Face, model files of llm.c. Opening one reads and checks everything but the values. Those are
// read a piece at a time, under Lathe's names and in its layout, whatever theirs is in the file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lathe/model_config.h"
#include "lathe/tensor.h"

namespace lathe {

enum class ModelFormat { lathe, hugging_face, llmc };
std::string_view title(ModelFormat format);  // "Hugging Face GPT-2"

struct ModelInfo {
  ModelFormat format;
  std::filesystem::path path;  // of a run, its newest checkpoint
  ModelConfig config;
  std::string precision;                      // fp32 | bf16: what holds its values exactly
  std::string tokenizer;                      // as --tokenizer names it; "none": not known
  std::optional<std::int64_t> end_of_text;    // the token between texts, where the file says so
  std::optional<std::int64_t> begin_of_text;  // where the file names it; else end_of_text is both
  std::optional<std::int64_t> step;           // of a checkpoint
  std::vector<std::string> remarks;  // lines for the user: what of the file is not followed
};

// Rows [first, first + count) of a parameter; of a vector, elements.
struct ParameterRows {
  const ParameterSpec* spec;  // of parameter_specs(info().config)
  std::int64_t first, count;

  std::int64_t elements() const { return spec->count() / spec->shape[0] * count; }
};

class ModelSource {
 public:
  explicit ModelSource(ModelInfo info) : info_(std::move(info)) {}
  virtual ~ModelSource() = default;

  const ModelInfo& info() const { return info_; }

  // Fills `to`, of rows.elements() of `type` (fp32 or bf16). Values stay exactly what they are, but
  // for those of fp32 and fp16 that are read as bf16.
  virtual void read(const ParameterRows& rows, DType type, std::span<std::byte> to) const = 0;

 private:
  ModelInfo info_;
};

// Of a bf16 checkpoint: the values that the model computes with, or those in fp32 that training
// goes on from. Everything else holds one of both.
enum class Weights { in_use, master };

// Errors: checkpoint, when it is nothing of the kind or damaged.
std::unique_ptr<ModelSource> open_model(const std::filesystem::path& path, Weights weights);

// Of a model of 50257 tokens whose file does not name its tokenizer: it is GPT-2's.
void assume_gpt2_tokens(ModelInfo& info);

// Calls visit(rows) for pieces of a parameter, in order, of some millions of elements.
void for_each_rows(const ParameterSpec& spec,
                   const std::function<void(const ParameterRows&)>& visit);

}  // namespace lathe
