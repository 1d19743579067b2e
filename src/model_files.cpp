#include "lathe/model_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "lathe/cuda.h"
#include "lathe/error.h"

namespace lathe {
namespace {

// The elements of each parameter in flat `memory`, named `prefix` + parameter.
void append_tensors(std::vector<NamedTensor>& tensors, const Gpt2& model, const Tensor& memory,
                    const std::string& prefix) {
  for (const ParameterSpec& spec : model.specs()) {
    tensors.push_back({.name = prefix + spec.name,
                       .shape = spec.shape,
                       .memory = memory.slice(spec.offset, spec.count())});
  }
}

struct ParameterSource {
  std::filesystem::path file;
  std::string prefix;  // of the parameters' names in it
};

// A safetensors file given directly, or that of a checkpoint or run which has the parameters in
// fp32.
ParameterSource find_parameters(const std::string& path) {
  if (!std::filesystem::is_directory(path)) return {.file = path, .prefix = ""};
  const CheckpointInfo info = open_checkpoint(path);
  if (parse_precision(info.precision) == DType::fp32) {
    return {.file = info.folder / "model.safetensors", .prefix = ""};
  }
  return {.file = info.folder / "optimizer.safetensors", .prefix = "master."};
}

}  // namespace

std::vector<NamedTensor> model_tensors(const Gpt2& model) {
  std::vector<NamedTensor> tensors;
  append_tensors(tensors, model, model.parameters(), "");
  return tensors;
}

std::vector<NamedTensor> optimizer_tensors(const Gpt2& model, const AdamW& adamw) {
  std::vector<NamedTensor> tensors;
  append_tensors(tensors, model, adamw.m(), "m.");
  append_tensors(tensors, model, adamw.v(), "v.");
  if (adamw.has_own_master()) append_tensors(tensors, model, adamw.master(), "master.");
  return tensors;
}

void initialize_from(const std::string& path, Backend& backend, const Gpt2& model, AdamW& adamw) {
  const ParameterSource source = find_parameters(path);
  const SafetensorsReader reader(source.file, ExitCode::checkpoint);
  std::vector<NamedTensor> tensors;
  append_tensors(tensors, model, adamw.master(), source.prefix);
  for (const NamedTensor& tensor : tensors) load_tensor(reader, backend, tensor);
  adamw.publish_master();
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

LoadedModel load_model(const Options& options, std::int64_t micro_batch) {
  CheckpointInfo info = open_checkpoint(options.checkpoint);
  const std::string precision = options.precision.empty() ? info.precision : options.precision;
  if (options.seq_len > info.config.context) {
    throw Error(ExitCode::usage,
                fmt::format("--seq-len {}: is beyond the {} positions of {}", options.seq_len,
                            info.config.context, info.folder.string()));
  }
  LoadedModel loaded{.backend = make_backend(options), .checkpoint = info, .model = nullptr};
  const std::int64_t seq_len =
      options.seq_len > 0 ? options.seq_len : std::min<std::int64_t>(info.config.context, 1024);
  loaded.model = std::make_unique<Gpt2>(*loaded.backend, info.config,
                                        ModelOptions{.micro_batch = micro_batch,
                                                     .seq_len = seq_len,
                                                     .precision = parse_precision(precision),
                                                     .recompute = Recompute::none,
                                                     .training = false});
  load_checkpoint(info, *loaded.backend, model_tensors(*loaded.model), {});
  return loaded;
}

}  // namespace lathe
