#include "lathe/model_config.h"

#include <fmt/format.h>

#include <cmath>
#include <numeric>

#include "lathe/error.h"

namespace lathe {
namespace {

struct Preset {
  const char* name;
  ModelConfig config;
};

// "tiny" learns the embedded stories in a minute; the others are GPT-2's four sizes, also under
// the names by depth that llm.c gives them.
constexpr Preset kPresets[] = {
    {"tiny", {.layers = 4, .heads = 4, .channels = 128, .context = 128, .vocab = 0}},
    {"gpt2", {.layers = 12, .heads = 12, .channels = 768, .context = 1024, .vocab = 0}},
    {"gpt2-medium", {.layers = 24, .heads = 16, .channels = 1024, .context = 1024, .vocab = 0}},
    {"gpt2-large", {.layers = 36, .heads = 20, .channels = 1280, .context = 1024, .vocab = 0}},
    {"gpt2-xl", {.layers = 48, .heads = 25, .channels = 1600, .context = 1024, .vocab = 0}},
    {"d12", {.layers = 12, .heads = 12, .channels = 768, .context = 1024, .vocab = 0}},
    {"d24", {.layers = 24, .heads = 16, .channels = 1024, .context = 1024, .vocab = 0}},
    {"d36", {.layers = 36, .heads = 20, .channels = 1280, .context = 1024, .vocab = 0}},
    {"d48", {.layers = 48, .heads = 25, .channels = 1600, .context = 1024, .vocab = 0}},
};

constexpr float kInitStddev = 0.02f;

// Appends specs one after another in flat memory.
class SpecList {
 public:
  void add(int block, std::string name, std::vector<std::int64_t> shape, ParameterSpec::Init init,
           float stddev = 0, std::int64_t padded_rows = 0) {
    const bool is_matrix = shape.size() > 1;
    specs_.push_back({.name = std::move(name),
                      .shape = std::move(shape),
                      .offset = end_,
                      .padded_rows = padded_rows,
                      .init = init,
                      .init_stddev = stddev,
                      .decays = is_matrix,
                      .block = block});
    ParameterSpec& spec = specs_.back();
    if (padded_rows == 0) spec.padded_rows = spec.shape[0];
    end_ += (spec.padded_count() + 63) / 64 * 64;
  }
  std::vector<ParameterSpec> take() { return std::move(specs_); }

 private:
  std::vector<ParameterSpec> specs_;
  std::int64_t end_ = 0;
};

}  // namespace

std::optional<ModelConfig> model_preset(std::string_view name) {
  for (const Preset& preset : kPresets) {
    if (name == preset.name) return preset.config;
  }
  return std::nullopt;
}

std::vector<std::string> model_preset_names() {
  std::vector<std::string> names;
  for (const Preset& preset : kPresets) names.emplace_back(preset.name);
  return names;
}

std::optional<std::string> find_size_problem(const ModelConfig& config, const SizeNames& names) {
  struct Limit {
    std::string_view name;
    std::int64_t value, most;
  };
  for (const auto& [name, value, most] :
       {Limit{names.layers, config.layers, 1000}, Limit{names.heads, config.heads, 1024},
        Limit{names.channels, config.channels, 65536},
        Limit{names.context, config.context, 1 << 20},
        Limit{names.vocab, config.vocab, kMostVocab}}) {
    if (value >= 1 && value <= most) continue;
    return fmt::format("{} {}: must be between 1 and {}", name, value, most);
  }
  if (config.channels % config.heads == 0) return std::nullopt;
  std::string divisors;
  for (std::int64_t h = 1; h <= config.channels && h <= 64; ++h) {
    if (config.channels % h == 0) divisors += fmt::format("{}{}", divisors.empty() ? "" : ", ", h);
  }
  return fmt::format("{} {}: does not divide {} {}; {} would", names.heads, config.heads,
                     names.channels, config.channels, divisors);
}

void validate(const ModelConfig& config) {
  const auto problem = find_size_problem(config, {.layers = "--layers",
                                                  .heads = "--heads",
                                                  .channels = "--channels",
                                                  .context = "--context",
                                                  .vocab = "--vocab"});
  if (problem) throw Error(ExitCode::usage, *problem);
}

std::int64_t ParameterSpec::count() const {
  return std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
}

std::int64_t ParameterSpec::padded_count() const {
  return count() / shape[0] * padded_rows;
}

std::vector<ParameterSpec> parameter_specs(const ModelConfig& config) {
  using enum ParameterSpec::Init;
  const std::int64_t C = config.channels;
  const int L = static_cast<int>(config.layers);
  // Radford et al. 2019: projections back into the residual stream start smaller by 1/sqrt(2L).
  const float residual_stddev = kInitStddev / std::sqrt(2.0f * static_cast<float>(L));
  SpecList list;
  list.add(-1, "token_embedding.weight", {config.vocab, C}, normal, kInitStddev,
           config.padded_vocab());
  list.add(-1, "position_embedding.weight", {config.context, C}, normal, kInitStddev);
  for (int l = 0; l < L; ++l) {
    const std::string block = fmt::format("blocks.{}.", l);
    list.add(l, block + "attention.qkv.weight", {3 * C, C}, normal, kInitStddev);
    list.add(l, block + "attention.proj.weight", {C, C}, normal, residual_stddev);
    list.add(l, block + "mlp.fc.weight", {4 * C, C}, normal, kInitStddev);
    list.add(l, block + "mlp.proj.weight", {C, 4 * C}, normal, residual_stddev);
    list.add(l, block + "ln1.gain", {C}, ones);
    list.add(l, block + "ln1.bias", {C}, zeros);
    list.add(l, block + "attention.qkv.bias", {3 * C}, zeros);
    list.add(l, block + "attention.proj.bias", {C}, zeros);
    list.add(l, block + "ln2.gain", {C}, ones);
    list.add(l, block + "ln2.bias", {C}, zeros);
    list.add(l, block + "mlp.fc.bias", {4 * C}, zeros);
    list.add(l, block + "mlp.proj.bias", {C}, zeros);
  }
  list.add(L, "final_ln.gain", {C}, ones);
  list.add(L, "final_ln.bias", {C}, zeros);
  return list.take();
}

std::int64_t parameter_memory_count(const std::vector<ParameterSpec>& specs) {
  const ParameterSpec& last = specs.back();
  return last.offset + (last.padded_count() + 63) / 64 * 64;
}

std::int64_t parameter_count(const std::vector<ParameterSpec>& specs) {
  std::int64_t total = 0;
  for (const ParameterSpec& spec : specs) total += spec.count();
  return total;
}

}  // namespace lathe
