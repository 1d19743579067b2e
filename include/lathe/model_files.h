// Models to and from checkpoints: which tensors there are, and models made from files.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "lathe/adamw.h"
#include "lathe/checkpoint.h"
#include "lathe/error.h"
#include "lathe/model.h"
#include "lathe/model_source.h"
#include "lathe/options.h"
#include "lathe/tokenizer.h"
#include "lathe/training_data.h"

namespace lathe {

// The parameters of a model under their names, without padding rows.
std::vector<NamedTensor> model_tensors(const Gpt2& model);

// Of them what the optimizer of this rank updates.
std::vector<NamedTensor> updated_model_tensors(const Gpt2& model, const AdamW& adamw);

// m.NAME, v.NAME and, where the optimizer has its own, master.NAME of every parameter, as far as
// this rank has them.
std::vector<NamedTensor> optimizer_tensors(const Gpt2& model, const AdamW& adamw);

// Fills the master weights with those of a file (--init-from) and publishes them. Errors:
// checkpoint.
void initialize_from(const ModelSource& source, Backend& backend, const Gpt2& model, AdamW& adamw);

struct InitialModel {
  std::unique_ptr<ModelSource> source;
  // Why nothing here makes the model's tokens of a text; the options then say "bytes", their
  // default, which shards of tokens do not mind.
  std::optional<Error> no_tokenizer;
};

// The model of --init-from, whose sizes and, where none is given, tokenizer the options take over;
// nullopt without. Errors: checkpoint; usage, when the options ask for other sizes.
std::optional<InitialModel> open_initial_model(Options& options);

// Errors: no_tokenizer, for text; usage, when a model of bytes would be trained on the tokens of
// words, or the reverse.
void require_tokenizer(const InitialModel& initial, const TrainingData& data);

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

// A model for eval and sample: that of --checkpoint, a file of any kind that open_model() knows.
struct LoadedModel {
  std::unique_ptr<Backend> backend;
  ModelInfo info;
  std::unique_ptr<Gpt2> model;
};
struct LoadSpec {
  std::int64_t micro_batch;
  std::int64_t seq_len;  // at most the model's positions
};
LoadedModel load_model(const Options& options, const ModelSource& source, const LoadSpec& spec);

}  // namespace lathe
