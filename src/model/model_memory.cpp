// Where the model's tensors lie, and what is in the parameters at the start.
#include <algorithm>
#include <string>
#include <thread>
#include <unordered_map>

#include "lathe/model.h"
#include "lathe/random.h"
#include "lathe/stop_signal.h"

namespace lathe {
namespace {

// Logits are made for as many rows at a time as fit in `most_logits` elements: enough for efficient
// products, little beside the rest.
std::int64_t head_rows(std::int64_t N, std::int64_t Vp, std::int64_t most_logits) {
  return std::min(N, std::max<std::int64_t>(64, most_logits / Vp / 64 * 64));
}

struct Sizes {
  std::int64_t B, T, C, H;
};

// What a block keeps whether or not it is recomputed: little memory for what costs most to make.
void take_kept(BlockActivations& block, Arena& arena, DType compute, const Sizes& sizes) {
  const auto [B, T, C, H] = sizes;
  block.attention = arena.take(compute, {B, T, C});
  block.log_sum_exp = arena.take(DType::fp32, {B, H, T});
  block.middle = arena.take(compute, {B * T, C});
}

void take_recomputed(BlockActivations& block, Arena& arena, DType compute, const Sizes& sizes) {
  const auto [B, T, C, H] = sizes;
  const std::int64_t N = B * T;
  block.ln1 = arena.take(compute, {N, C});
  block.ln1_mean = arena.take(DType::fp32, {N});
  block.ln1_rstd = arena.take(DType::fp32, {N});
  block.qkv = arena.take(compute, {B, T, 3 * C});
  block.ln2 = arena.take(compute, {N, C});
  block.ln2_mean = arena.take(DType::fp32, {N});
  block.ln2_rstd = arena.take(DType::fp32, {N});
  block.pre_gelu = arena.take(compute, {N, 4 * C});
  block.gelu = arena.take(compute, {N, 4 * C});
}

// Initial values of elements [begin, begin + out.size()) of parameter number `index`.
void initial_values(const ParameterSpec& spec, std::uint32_t index, std::uint64_t seed,
                    std::int64_t begin, std::span<float> out) {
  const RandomKey key{.seed = seed, .stream = RandomStream::parameter_init, .substream = index};
  for (std::size_t i = 0; i < out.size(); ++i) {
    switch (spec.init) {
      case ParameterSpec::Init::zeros:
        out[i] = 0;
        break;
      case ParameterSpec::Init::ones:
        out[i] = 1;
        break;
      case ParameterSpec::Init::normal:
        out[i] = static_cast<float>(spec.init_stddev *
                                    normal(key, static_cast<std::uint64_t>(begin) + i));
        break;
    }
  }
}

}  // namespace

Activations lay_out_activations(Arena& arena, const ModelConfig& config,
                                const ModelOptions& options, std::int64_t B, std::int64_t T) {
  const std::int64_t N = B * T, C = config.channels;
  const auto L = static_cast<std::size_t>(config.layers);
  const DType compute = options.precision;
  Activations a;
  // First, so that it stays in its place when micro-batches of other shapes add to it.
  a.loss_sum = arena.take(DType::fp32, {1});
  a.tokens = arena.take(DType::int32, {B, T});
  a.targets = arena.take(DType::int32, {B, T});

  // A block without a backward to come may overwrite what the block before it has left.
  const bool keeps_blocks = options.training && options.recompute == Recompute::none;
  a.residual.resize(L + 1);
  a.blocks.resize(L);
  for (std::size_t layer = 0; layer <= L; ++layer) {
    const bool is_new = options.training || layer < 2;
    a.residual[layer] = is_new ? arena.take(compute, {N, C}) : a.residual[layer - 2];
  }
  for (std::size_t layer = 0; layer < L; ++layer) {
    const Sizes sizes{.B = B, .T = T, .C = C, .H = config.heads};
    BlockActivations& block = a.blocks[layer];
    if (layer > 0) block = a.blocks[0];
    if (layer == 0 || options.training) take_kept(block, arena, compute, sizes);
    if (layer == 0 || keeps_blocks) take_recomputed(block, arena, compute, sizes);
  }

  a.final_ln = arena.take(compute, {N, C});
  a.final_ln_mean = arena.take(DType::fp32, {N});
  a.final_ln_rstd = arena.take(DType::fp32, {N});
  const std::int64_t Vp = config.padded_vocab();
  a.logits = arena.take(compute, {head_rows(N, Vp, options.most_logits), Vp});
  a.losses = arena.take(DType::fp32, {N});
  if (options.training) {
    a.d_residual = arena.take(compute, {N, C});
    a.d_narrow = arena.take(compute, {N, C});
    a.d_wide = arena.take(compute, {N, 4 * C});
  }
  return a;
}

KeyValueCache lay_out_cache(Arena& arena, const ModelConfig& config, DType compute, std::int64_t B,
                            std::int64_t S) {
  const std::int64_t H = config.heads, D = config.channels / H;
  KeyValueCache cache;
  for (std::int64_t layer = 0; layer < config.layers; ++layer) {
    cache.keys.push_back(arena.take(compute, {B, H, S, D}));
    cache.values.push_back(arena.take(compute, {B, H, S, D}));
  }
  return cache;
}

ModelParameters bind_parameters(const std::vector<ParameterSpec>& specs, const Tensor& memory) {
  std::unordered_map<std::string, Tensor> tensors;
  for (const ParameterSpec& spec : specs) {
    const Tensor flat = memory.slice(spec.offset, spec.padded_count());
    tensors[spec.name] =
        spec.shape.size() == 1 ? flat : flat.view({spec.padded_rows, spec.shape[1]});
  }
  const auto linear = [&](const std::string& name) {
    return LinearParameters{.weight = tensors.at(name + ".weight"),
                            .bias = tensors.at(name + ".bias")};
  };
  const auto layernorm = [&](const std::string& name) {
    return LayerNormParameters{.gain = tensors.at(name + ".gain"),
                               .bias = tensors.at(name + ".bias")};
  };
  ModelParameters parameters{.token_embedding = tensors.at("token_embedding.weight"),
                             .position_embedding = tensors.at("position_embedding.weight"),
                             .blocks = {},
                             .final_ln = layernorm("final_ln")};
  for (int layer = 0; layer < specs.back().block; ++layer) {
    const std::string block = "blocks." + std::to_string(layer) + ".";
    parameters.blocks.push_back({.ln1 = layernorm(block + "ln1"),
                                 .qkv = linear(block + "attention.qkv"),
                                 .attention_proj = linear(block + "attention.proj"),
                                 .ln2 = layernorm(block + "ln2"),
                                 .fc = linear(block + "mlp.fc"),
                                 .mlp_proj = linear(block + "mlp.proj")});
  }
  return parameters;
}

void initialize_parameters(Backend& backend, const std::vector<ParameterSpec>& specs,
                           const Slices& memory, std::uint64_t seed) {
  constexpr std::int64_t kChunk = 1 << 20;  // elements made at a time
  const auto threads = static_cast<std::int64_t>(available_threads());
  std::vector<float> values(kChunk);
  for (std::uint32_t index = 0; index < specs.size(); ++index) {
    const ParameterSpec& spec = specs[index];
    for (std::int64_t begin = 0; begin < spec.count(); begin += kChunk) {
      require_no_stop("the first parameters");
      const std::int64_t count = std::min(kChunk, spec.count() - begin);
      const std::int64_t share = (count + threads - 1) / threads;
      {
        std::vector<std::jthread> workers;
        for (std::int64_t first = 0; first < count; first += share) {
          const std::span<float> part(values.data() + first,
                                      static_cast<std::size_t>(std::min(share, count - first)));
          workers.emplace_back(
              [&, first, part] { initial_values(spec, index, seed, begin + first, part); });
        }
      }
      const std::int64_t first_element = spec.offset + begin;
      memory.for_each_piece(first_element, first_element + count,
                            [&](std::int64_t element, const Tensor& piece) {
                              backend.upload(piece, values.data() + (element - first_element));
                            });
    }
  }
}

}  // namespace lathe
