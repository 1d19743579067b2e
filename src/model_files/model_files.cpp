#include "lathe/model_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "lathe/cuda.h"
#include "lathe/dataset.h"
#include "lathe/error.h"
#include "lathe/stop_signal.h"
#include "lathe/tokenizer.h"

namespace lathe {
namespace {

// The elements of each parameter that are in `memory`, named `prefix` + parameter.
void append_tensors(std::vector<NamedTensor>& tensors, const Gpt2& model, const Slices& memory,
                    const std::string& prefix) {
  for (const ParameterSpec& spec : model.specs()) {
    NamedTensor& tensor = tensors.emplace_back(NamedTensor{
        .name = prefix + spec.name, .shape = spec.shape, .memory = memory.memory().slice(0, 0)});
    // A rank's elements of a parameter, which is in one bucket, lie side by side.
    memory.for_each_piece(spec.offset, spec.offset + spec.count(),
                          [&](std::int64_t element, const Tensor& piece) {
                            tensor.first = element - spec.offset;
                            tensor.memory = piece;
                          });
  }
}

// Fills memory of parameters, as far as their elements are there, piece by piece.
void load_parameters(const ModelSource& source, Backend& backend,
                     const std::vector<ParameterSpec>& specs, const Slices& memory) {
  for (const ParameterSpec& spec : specs) {
    const std::int64_t row = spec.count() / spec.shape[0];
    require_no_stop(source.info().path.string());
    for_each_rows(spec, [&](const ParameterRows& rows) {
      std::vector<std::byte> host(
          static_cast<std::size_t>(rows.elements() * size_of(memory.type())));
      source.read(rows, memory.type(), host);
      const std::int64_t begin = spec.offset + rows.first * row;
      memory.for_each_piece(
          begin, begin + rows.elements(), [&](std::int64_t element, const Tensor& piece) {
            backend.upload(piece, host.data() + (element - begin) * size_of(memory.type()));
          });
    });
  }
}

void adopt_sizes(Options& options, const ModelConfig& config) {
  struct Size {
    const char* option;
    std::int64_t Options::*given;
    std::int64_t ModelConfig::*size;
  };
  constexpr Size kSizes[] = {{"layers", &Options::layers, &ModelConfig::layers},
                             {"heads", &Options::heads, &ModelConfig::heads},
                             {"channels", &Options::channels, &ModelConfig::channels},
                             {"context", &Options::context, &ModelConfig::context},
                             {"vocab", &Options::vocab, &ModelConfig::vocab}};
  const ModelConfig preset =
      options.model.empty() ? ModelConfig{} : model_preset(options.model).value();
  for (const auto& [option, given, size] : kSizes) {
    const std::int64_t found = config.*size;
    const std::string of_file = fmt::format("--init-from {} has {}", options.init_from, found);
    if (options.*given != 0 && options.*given != found) {
      throw Error(ExitCode::usage, fmt::format("--{} {}: {}", option, options.*given, of_file));
    }
    if (options.*given == 0 && preset.*size != 0 && preset.*size != found) {
      throw Error(ExitCode::usage, fmt::format("--model {}: has {} {}, {}", options.model,
                                               preset.*size, option, of_file));
    }
    options.*given = found;
  }
}

// The tokenizer of a model, where nobody names another. Sets options.tokenizer or says why not.
std::optional<Error> adopt_tokenizer(Options& options, const ModelInfo& info) {
  options.tokenizer = "bytes";
  if (info.tokenizer == "none") {
    return Error(ExitCode::usage,
                 fmt::format("--init-from {}: does not say how text becomes its tokens; "
                             "give --tokenizer, bytes where a token is a byte",
                             info.path.string()));
  }
  try {
    options.tokenizer = open_tokenizer(info.tokenizer)->name();
  } catch (const Error& error) {
    return error;
  }
  return std::nullopt;
}

}  // namespace

std::vector<NamedTensor> model_tensors(const Gpt2& model) {
  std::vector<NamedTensor> tensors;
  append_tensors(tensors, model, model.parameters(), "");
  return tensors;
}

std::vector<NamedTensor> updated_model_tensors(const Gpt2& model, const AdamW& adamw) {
  std::vector<NamedTensor> tensors = model_tensors(model);
  for (NamedTensor& tensor : tensors) {
    const ParameterSpec& spec = model.specs()[static_cast<std::size_t>(&tensor - tensors.data())];
    const Tensor whole = tensor.memory;
    tensor.memory = whole.slice(0, 0);
    for (const ElementRange& range : adamw.owned()) {
      const std::int64_t begin = std::max(range.begin - spec.offset, std::int64_t{0});
      const std::int64_t end = std::min(range.end - spec.offset, spec.count());
      if (begin >= end) continue;
      tensor.first = begin;
      tensor.memory = whole.slice(begin, end - begin);
    }
  }
  return tensors;
}

std::vector<NamedTensor> optimizer_tensors(const Gpt2& model, const AdamW& adamw) {
  std::vector<NamedTensor> tensors;
  append_tensors(tensors, model, adamw.slices_of(adamw.m()), "m.");
  append_tensors(tensors, model, adamw.slices_of(adamw.v()), "v.");
  if (adamw.has_own_master()) append_tensors(tensors, model, adamw.master_slices(), "master.");
  return tensors;
}

void initialize_from(const ModelSource& source, Backend& backend, const Gpt2& model, AdamW& adamw) {
  if (source.info().config != model.config()) {
    throw Error(ExitCode::checkpoint, fmt::format("{}: holds a model of other sizes than the run's",
                                                  source.info().path.string()));
  }
  load_parameters(source, backend, model.specs(), adamw.master_slices());
  adamw.publish_master();
}

std::optional<InitialModel> open_initial_model(Options& options) {
  if (options.init_from.empty()) return std::nullopt;
  InitialModel initial{.source = open_model(options.init_from, Weights::master),
                       .no_tokenizer = std::nullopt};
  const ModelInfo& info = initial.source->info();
  adopt_sizes(options, info.config);
  if (options.tokenizer.empty()) initial.no_tokenizer = adopt_tokenizer(options, info);
  return initial;
}

void require_tokenizer(const InitialModel& initial, const TrainingData& data) {
  const ModelInfo& info = initial.source->info();
  if (data.is_text && initial.no_tokenizer) throw Error(*initial.no_tokenizer);
  if (info.tokenizer == "none" || data.tokenizer_name == "none") return;
  if ((info.tokenizer == "bytes") == (data.tokenizer_name == "bytes")) return;
  throw Error(ExitCode::usage,
              fmt::format("--init-from {}: its tokens are those of {}, the data's of {}; leave out "
                          "--tokenizer, or give data of the model's tokens",
                          info.path.string(), info.tokenizer, data.tokenizer_name));
}

std::string warning_of_other_tokens(const ModelInfo& info, const Tokenizer& data_tokenizer) {
  if (info.tokenizer == "none") return "";
  try {
    if (same_tokens(*open_tokenizer(info.tokenizer), data_tokenizer)) return "";
  } catch (const Error&) {
    return "";  // not to be had
  }
  return fmt::format("warning: {} has learned the tokens of {}, the data's are those of {}",
                     info.path.string(), info.tokenizer, data_tokenizer.name());
}

std::unique_ptr<Backend> make_backend(const Options& options) {
  if (uses_gpu(options)) {
    return make_cuda_backend({.tf32 = options.tf32,
                              .gemm_tuning = options.gemm_tuning != "off",
                              .graph = options.graph});
  }
  return make_cpu_backend(options.threads > 0 ? static_cast<int>(options.threads)
                                              : available_threads());
}

DType parse_precision(const std::string& name) {
  return name == "bf16" ? DType::bf16 : DType::fp32;
}

ModelOptions training_model_options(const Options& options) {
  // A GPU wants large products, and has the memory.
  constexpr std::int64_t kMostLogitsOnGpu = std::int64_t{1} << 29;
  ModelOptions model{.micro_batch = options.micro_batch,
                     .seq_len = options.seq_len,
                     .precision = parse_precision(options.precision),
                     .recompute = options.recompute == "block" ? Recompute::block : Recompute::none,
                     .training = true};
  if (uses_gpu(options)) model.most_logits = kMostLogitsOnGpu;
  return model;
}

ModelConfig complete_config(const Options& options, std::int64_t vocab) {
  ModelConfig config = model_config(options);
  config.vocab = vocab;
  validate(config);
  return config;
}

AdamWOptions adamw_options(const Options& options) {
  return {.beta1 = options.beta1,
          .beta2 = options.beta2,
          .eps = options.eps,
          .weight_decay = options.weight_decay,
          .grad_clip = options.grad_clip};
}

LoadedModel load_model(const Options& options, const ModelSource& source, const LoadSpec& spec) {
  const ModelInfo& info = source.info();
  const std::string precision = options.precision.empty() ? info.precision : options.precision;
  LoadedModel loaded{.backend = make_backend(options), .info = info, .model = nullptr};
  loaded.model = std::make_unique<Gpt2>(*loaded.backend, info.config,
                                        ModelOptions{.micro_batch = spec.micro_batch,
                                                     .seq_len = spec.seq_len,
                                                     .precision = parse_precision(precision),
                                                     .recompute = Recompute::none,
                                                     .training = false});
  load_parameters(source, *loaded.backend, loaded.model->specs(), loaded.model->parameters());
  return loaded;
}

}  // namespace lathe
