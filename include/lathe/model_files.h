// Models to and from checkpoints: which tensors there are, and models made from files.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "lathe/adamw.h"
#include "lathe/checkpoint.h"
#include "lathe/model.h"
#include "lathe/model_source.h"
#include "lathe/options.h"
#include "lathe/tokenizer.h"

namespace lathe {

// The parameters of a model under their names, without padding rows.
std::vector<NamedTensor> model_tensors(const Gpt2& model);

// m.NAME, v.NAME and, where the optimizer has its own, master.NAME of every parameter.
std::vector<NamedTensor> optimizer_tensors(const Gpt2& model, const AdamW& adamw);

// Fills the master weights with those of a file (--init-from) and publishes them. Errors:
// checkpoint.
void initialize_from(const ModelSource& source, Backend& backend, const Gpt2& model, AdamW& adamw);

// The model of --init-from, whose sizes and, where none is given, tokenizer the options take over;
// nullptr without. Errors: checkpoint; usage, when the options ask for other sizes.
std::unique_ptr<ModelSource> open_initial_model(Options& options);

// Errors: usage, when a model of bytes would be trained on the tokens of words, or the reverse.
void require_tokenizer(const ModelInfo& info, const std::string& data_tokenizer);

// A line for the log where the data's tokens are not the model's, as far as both are known; else
// "".
std::string warning_of_other_tokens(const ModelInfo& info, const Tokenizer& data_tokenizer);

// The backend of --device and --threads. Errors: usage.
std::unique_ptr<Backend> make_backend(const Options& options);

DType parse_precision(const std::string& name);

// What the options say of a model to be trained, of its size and of its optimizer. Errors: usage.
ModelOptions training_model_options(const Options& options);
ModelConfig complete_config(const Options& options, std::int64_t vocab);
AdamWOptions adamw_options(const Options& options);

// A model for eval and sample, from --checkpoint: a file of any kind that open_model() knows.
struct LoadedModel {
  std::unique_ptr<Backend> backend;
  ModelInfo info;
  std::unique_ptr<Gpt2> model;
};
LoadedModel load_model(const Options& options, std::int64_t micro_batch);

}  // namespace lathe
