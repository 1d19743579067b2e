#include "lathe/plan.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <nlohmann/json.hpp>

#include "base/number_text.h"
#include "lathe/adamw.h"
#include "lathe/commands.h"
#include "lathe/decoder.h"
#include "lathe/error.h"
#include "lathe/gpt2_tokens.h"
#include "lathe/horizon.h"
#include "lathe/model_files.h"
#include "lathe/scale.h"
#include "lathe/training_data.h"
#include "plan_scale.h"
#include "run/checkpoint_saver.h"

namespace lathe {
namespace {

// What a process holds beside its tensors: libraries' own memory, kernels that oneDNN has made,
// buffers of files, and each thread's stack and scratch. Measured (docs/performance.md).
constexpr std::int64_t kRuntimeBytes = std::int64_t{8} << 20;
constexpr std::int64_t kThreadBytes = std::int64_t{3} << 20;
// On a GPU: the workspace of products, and the kernels' own sums. Not measured yet.
constexpr std::int64_t kGpuRuntimeBytes = std::int64_t{96} << 20;

}  // namespace

MemoryPlan plan_memory(const ModelConfig& config, const Options& options, std::int64_t ranks) {
  const std::vector<ParameterSpec> specs = parameter_specs(config);
  const std::int64_t count = parameter_memory_count(specs);
  // A rank alone has all of it, as it lies in memory.
  const std::int64_t own = ranks == 1 ? count : optimizer_share(specs, ranks);
  const ModelOptions model = training_model_options(options);
  Arena measure;
  lay_out_activations(measure, config, model, options.micro_batch, options.seq_len);
  return {.parameters = count * size_of(model.precision),
          .gradients = count * size_of(DType::fp32),
          .optimizer = AdamW::memory_bytes(own, model.precision),
          .activations = measure.bytes(),
          .samples = CachedDecoder::memory_bytes(config, model, /*sequences=*/1),
          .saving = CheckpointSaver::memory_bytes(options.background_save && ranks == 1,
                                                  uses_gpu(options),
                                                  checkpoint_bytes(config, model.precision)),
          .runtime = uses_gpu(options) ? kGpuRuntimeBytes
                                       : kRuntimeBytes + options.threads * kThreadBytes};
}

void require_memory(const Backend& backend, const ModelConfig& config, const Options& options,
                    std::int64_t ranks) {
  const std::optional<DeviceMemory> memory = backend.memory();
  if (!memory) return;
  const auto needed = [&](const Options& o) { return plan_memory(config, o, ranks).total(); };
  if (needed(options) <= memory->free) return;
  std::vector<std::string> ways;
  const auto try_largest_batch = [&](const std::string& recompute) {
    Options other = options;
    other.recompute = recompute;
    const std::int64_t rows = options.batch_tokens / options.seq_len / ranks;
    for (other.micro_batch = options.micro_batch; other.micro_batch > 0; --other.micro_batch) {
      if (rows % other.micro_batch != 0 || needed(other) > memory->free) continue;
      ways.push_back(fmt::format("--micro-batch {} --recompute {} ({})", other.micro_batch,
                                 recompute, megabytes_text(needed(other))));
      return;
    }
  };
  if (options.recompute == "none") try_largest_batch("none");
  try_largest_batch("block");
  throw Error(ExitCode::out_of_memory,
              fmt::format("the run needs {} of GPU memory, {} of {} are free; {}",
                          megabytes_text(needed(options)), megabytes_text(memory->free),
                          megabytes_text(memory->total),
                          ways.empty() ? "a smaller model or --seq-len is needed"
                                       : fmt::format("{} would fit", fmt::join(ways, " or "))));
}

std::int64_t checkpoint_bytes(const ModelConfig& config, DType precision) {
  const std::int64_t count = parameter_count(parameter_specs(config));
  const std::int64_t masters = precision == DType::fp32 ? 0 : 1;
  return count * (size_of(precision) + (2 + masters) * size_of(DType::fp32));
}

std::int64_t assumed_vocab(std::string_view model) {
  return model == "tiny" ? 256 : kGpt2Vocab;
}

namespace {

struct Plan {
  Options options;
  ModelConfig config;
  MemoryPlan memory;
  Horizon horizon;
  bool has_horizon, is_new_text;
  std::optional<ScalePlan> scale;

  std::int64_t parameters() const { return parameter_count(parameter_specs(config)); }
  std::int64_t checkpoint() const {
    return checkpoint_bytes(config, parse_precision(options.precision));
  }
};

Plan make_plan(const Options& given) {
  Options options = given;
  open_initial_model(options);
  resolve(options);
  const std::optional<std::int64_t> new_text_vocab = vocab_of_new_text(options);
  const bool has_data = !options.train.empty() || options.model == "tiny";
  std::optional<TrainingData> data;
  if (has_data && !new_text_vocab) {
    data = open_training_data(
        options, {.tokenizer = options.tokenizer, .token_keys = {}, .may_tokenize = false});
  }
  const std::int64_t data_vocab =
      data ? data->vocab : new_text_vocab.value_or(assumed_vocab(options.model));
  const ModelConfig config =
      complete_config(options, options.vocab > 0 ? options.vocab : data_vocab);
  const Horizon horizon = make_horizon(options, data ? data->train.sequences(options.seq_len) : 0);
  return {.options = options,
          .config = config,
          .memory = plan_memory(config, options, rank_grid(options).ranks()),
          .horizon = horizon,
          .has_horizon = data || options.steps > 0 || options.tokens > 0,
          .is_new_text = new_text_vocab.has_value(),
          .scale = plan_scale(config, options, horizon.micro_steps)};
}

nlohmann::ordered_json to_json(const Plan& plan) {
  const auto& [options, config, memory, horizon, has_horizon, is_new_text, scale] = plan;
  const auto if_known = [&](std::int64_t value) {
    return plan.has_horizon ? nlohmann::ordered_json(value) : nullptr;
  };
  nlohmann::ordered_json json = {{"out", options.out},
                                 {"parameters", plan.parameters()},
                                 {"vocab", config.vocab},
                                 {"memory_bytes",
                                  {{"parameters", memory.parameters},
                                   {"gradients", memory.gradients},
                                   {"optimizer", memory.optimizer},
                                   {"activations", memory.activations},
                                   {"samples", memory.samples},
                                   {"runtime", memory.runtime},
                                   {"total", memory.total()}}},
                                 {"host_bytes", {{"saving", memory.saving}}},
                                 {"checkpoint_bytes", plan.checkpoint()},
                                 {"tokens_per_step", horizon.tokens_per_step},
                                 {"micro_steps", horizon.micro_steps},
                                 {"steps", if_known(horizon.steps)},
                                 {"tokens", if_known(horizon.steps * horizon.tokens_per_step)}};
  if (scale) json["scale"] = to_json(*scale);
  return json;
}

void print(const Plan& plan) {
  const auto& [options, config, memory, horizon, has_horizon, is_new_text, scale] = plan;
  fmt::print("folder       {}\n", options.out);
  fmt::print("model        {} layers, {} heads, {} channels, context {}, vocabulary {}\n",
             config.layers, config.heads, config.channels, config.context, config.vocab);
  fmt::print("parameters   {}\n\n", plan.parameters());
  fmt::print("memory       parameters   {:>10}\n", megabytes_text(memory.parameters));
  fmt::print("             gradients    {:>10}\n", megabytes_text(memory.gradients));
  fmt::print("             optimizer    {:>10}\n", megabytes_text(memory.optimizer));
  fmt::print("             activations  {:>10}\n", megabytes_text(memory.activations));
  fmt::print("             samples      {:>10}\n", megabytes_text(memory.samples));
  fmt::print("             runtime      {:>10}\n", megabytes_text(memory.runtime));
  fmt::print("             total        {:>10}\n\n", megabytes_text(memory.total()));
  if (memory.saving > 0) {
    fmt::print("host memory  saving       {:>10}\n\n", megabytes_text(memory.saving));
  }
  fmt::print("step         {} tokens: {} micro-batches of {} x {}{}\n", horizon.tokens_per_step,
             horizon.micro_steps, options.micro_batch, options.seq_len,
             rank_grid(options).ranks() == 1 ? "" : " on every rank");
  if (has_horizon) {
    fmt::print("run          {} steps, {} tokens\n", horizon.steps,
               horizon.steps * horizon.tokens_per_step);
  } else {
    fmt::print("run          {} to see its length\n",
               is_new_text ? "text has to be tokenised first: give --steps or --tokens"
                           : "give --train, --steps or --tokens");
  }
  fmt::print("checkpoint   {} each, {} kept\n", megabytes_text(plan.checkpoint()),
             options.keep == 0 ? "all" : std::to_string(options.keep));
  if (!scale) return;
  fmt::print("\n");
  print(*scale);
}

}  // namespace

int plan_command(const Options& given) {
  const Plan plan = make_plan(given);
  if (plan.options.json) {
    fmt::print("{}\n",
               to_json(plan).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  } else {
    print(plan);
  }
  return 0;
}

}  // namespace lathe
