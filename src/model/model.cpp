// Forward and backward of the model, mirrored line by line. The gradient of the residual stream
// lives in one tensor, d_residual, which each sublayer's LayerNorm backward adds to in place.
#include "lathe/model.h"

#include <fmt/format.h>

#include <algorithm>

#include "lathe/bf16.h"
#include "lathe/error.h"

namespace lathe {

Gpt2::Gpt2(Backend& backend, const ModelConfig& config, const ModelOptions& options)
    : backend_(backend),
      config_(config),
      options_(options),
      specs_(parameter_specs(config)),
      recorder_(backend.make_recorder()) {
  const std::int64_t count = parameter_memory_count(specs_);
  parameter_memory_ = backend.allocate(count * size_of(options.precision));
  values_ = bind_parameters(specs_, parameters());
  if (options.training) {
    gradient_memory_ = backend.allocate(count * size_of(DType::fp32));
    gradients_ = bind_parameters(specs_, gradients());
  }
  Arena measure;
  lay_out_activations(measure, config, options, options.micro_batch, options.seq_len);
  activation_memory_ = backend.allocate(measure.bytes());
}

Tensor Gpt2::parameters() const {
  return {parameter_memory_.get(), options_.precision, {parameter_memory_count(specs_)}};
}

Tensor Gpt2::gradients() const {
  return {gradient_memory_.get(), DType::fp32, {parameter_memory_count(specs_)}};
}

void Gpt2::load(const Batch& batch) {
  const bool fits = batch.sequences * batch.seq_len <= options_.micro_batch * options_.seq_len;
  if (!fits || batch.seq_len > options_.seq_len) {
    throw Error(ExitCode::internal, "Gpt2: a batch is larger than the memory for it");
  }
  if (batch.sequences != batch_ || batch.seq_len != time_) {
    batch_ = batch.sequences;
    time_ = batch.seq_len;
    Arena arena(activation_memory_.get());
    activations_ = lay_out_activations(arena, config_, options_, batch_, time_);
  }
  backend_.upload(activations_.tokens, batch.tokens.data());
  if (!batch.targets.empty()) backend_.upload(activations_.targets, batch.targets.data());
}

void Gpt2::forward_backward(const Batch& batch, float loss_scale, bool accumulate,
                            const BlockIsDone& block_is_done) {
  load(batch);
  if (block_is_done) return run_micro_step(loss_scale, accumulate, block_is_done);
  const std::string key = fmt::format("{} x {}, scale {:a}{}", batch_, time_, loss_scale,
                                      accumulate ? ", accumulate" : "");
  recorder_->run(key, [&] { run_micro_step(loss_scale, accumulate, {}); });
}

void Gpt2::run_micro_step(float loss_scale, bool accumulate, const BlockIsDone& block_is_done) {
  const auto tell = [&](int block) {
    if (block_is_done) block_is_done(block);
  };
  forward_blocks({});
  head_forward_backward(loss_scale, accumulate);
  backend_.run(
      Sum{.out = activations_.loss_sum, .x = activations_.losses, .accumulate = accumulate});
  const auto L = static_cast<std::size_t>(config_.layers);
  tell(static_cast<int>(L));
  for (std::size_t layer = L; layer-- > 0;) {
    // What the last block made is still in the shared memory.
    if (options_.recompute == Recompute::block && layer + 1 < L) recompute_block(layer);
    backward_block(layer, accumulate);
    tell(static_cast<int>(layer));
  }
  backend_.run(
      EmbeddingBackward{.d_token_table = gradients_.token_embedding,
                        .d_position_table = gradients_.position_embedding,
                        .d_out = activations_.d_residual.view({batch_, time_, config_.channels}),
                        .tokens = activations_.tokens,
                        .accumulate = accumulate});
  tell(-1);
}

void Gpt2::forward(const Batch& batch) {
  load(batch);
  forward_blocks({});
  head_losses();
}

std::vector<float> Gpt2::losses() const {
  std::vector<float> losses(static_cast<std::size_t>(activations_.losses.count()));
  backend_.download(losses.data(), activations_.losses);
  return losses;
}

std::vector<float> Gpt2::next_token_logits(std::span<const std::int32_t> tokens) {
  const auto T = static_cast<std::int64_t>(tokens.size());
  load({.sequences = 1, .seq_len = T, .tokens = tokens, .targets = {}});
  forward_blocks({});
  return head_logits(T - 1, 1);
}

std::vector<float> Gpt2::next_token_logits(const KeyValueCache& cache, const Continuation& next) {
  const auto count = static_cast<std::int64_t>(next.tokens.size());
  const std::int64_t B = next.shared ? 1 : count, T = next.shared ? count : 1;
  if (next.begin + T > options_.seq_len || (!next.shared && count != next.count)) {
    throw Error(ExitCode::internal, "Gpt2: a continuation that its sequences have no room for");
  }
  load({.sequences = B, .seq_len = T, .tokens = next.tokens, .targets = {}});
  forward_blocks({.cache = &cache, .first = next.first, .count = next.count, .begin = next.begin});
  return head_logits(T - 1, B);
}

void Gpt2::forward_blocks(const Past& past) {
  Activations& a = activations_;
  const Tensor& positions = values_.position_embedding;
  backend_.run(EmbeddingForward{
      .out = a.residual[0].view({batch_, time_, config_.channels}),
      .tokens = a.tokens,
      .token_table = values_.token_embedding,
      .position_table = positions.slice(past.begin, positions.size(0) - past.begin)});
  for (std::size_t layer = 0; layer < values_.blocks.size(); ++layer) forward_block(layer, past);
  backend_.run(LayerNormForward{.out = a.final_ln,
                                .mean = a.final_ln_mean,
                                .rstd = a.final_ln_rstd,
                                .x = a.residual.back(),
                                .gain = values_.final_ln.gain,
                                .bias = values_.final_ln.bias});
}

void Gpt2::attend(std::size_t layer, const Past& past) {
  const BlockActivations& a = activations_.blocks[layer];
  if (past.cache == nullptr) {
    backend_.run(AttentionForward{.out = a.attention, .log_sum_exp = a.log_sum_exp, .qkv = a.qkv});
    return;
  }
  // A row that several sequences share goes to each of them.
  for (std::int64_t i = 0; i < past.count; i += batch_) {
    backend_.run(AttentionCached{.out = a.attention,
                                 .keys = past.cache->keys[layer].slice(past.first + i, batch_),
                                 .values = past.cache->values[layer].slice(past.first + i, batch_),
                                 .qkv = a.qkv,
                                 .begin = past.begin});
  }
}

void Gpt2::forward_block(std::size_t layer, const Past& past) {
  const Backend::Layer in(backend_, layer);
  const BlockParameters& p = values_.blocks[layer];
  const BlockActivations& a = activations_.blocks[layer];
  const Tensor x = activations_.residual[layer];
  make_qkv(layer);
  attend(layer, past);
  backend_.run(LinearForward{.out = a.middle,
                             .pre_gelu = {},
                             .x = a.attention.view({x.size(0), x.size(1)}),
                             .weight = p.attention_proj.weight,
                             .bias = p.attention_proj.bias,
                             .residual = x});
  make_gelu(layer);
  backend_.run(LinearForward{.out = activations_.residual[layer + 1],
                             .pre_gelu = {},
                             .x = a.gelu,
                             .weight = p.mlp_proj.weight,
                             .bias = p.mlp_proj.bias,
                             .residual = a.middle});
}

void Gpt2::make_qkv(std::size_t layer) {
  const BlockParameters& p = values_.blocks[layer];
  const BlockActivations& a = activations_.blocks[layer];
  const Tensor x = activations_.residual[layer];
  backend_.run(LayerNormForward{.out = a.ln1,
                                .mean = a.ln1_mean,
                                .rstd = a.ln1_rstd,
                                .x = x,
                                .gain = p.ln1.gain,
                                .bias = p.ln1.bias});
  backend_.run(LinearForward{.out = a.qkv.view({x.size(0), 3 * x.size(1)}),
                             .pre_gelu = {},
                             .x = a.ln1,
                             .weight = p.qkv.weight,
                             .bias = p.qkv.bias,
                             .residual = {}});
}

void Gpt2::make_gelu(std::size_t layer) {
  const BlockParameters& p = values_.blocks[layer];
  const BlockActivations& a = activations_.blocks[layer];
  backend_.run(LayerNormForward{.out = a.ln2,
                                .mean = a.ln2_mean,
                                .rstd = a.ln2_rstd,
                                .x = a.middle,
                                .gain = p.ln2.gain,
                                .bias = p.ln2.bias});
  backend_.run(LinearForward{.out = a.gelu,
                             .pre_gelu = a.pre_gelu,
                             .x = a.ln2,
                             .weight = p.fc.weight,
                             .bias = p.fc.bias,
                             .residual = {}});
}

void Gpt2::recompute_block(std::size_t layer) {
  const Backend::Layer in(backend_, layer);
  make_qkv(layer);
  make_gelu(layer);
}

void Gpt2::backward_block(std::size_t layer, bool accumulate) {
  const Backend::Layer in(backend_, layer);
  const BlockParameters& p = values_.blocks[layer];
  const BlockParameters& d = gradients_.blocks[layer];
  const BlockActivations& a = activations_.blocks[layer];
  const Tensor& d_residual = activations_.d_residual;  // of the block's output, then of its input
  const Tensor& d_narrow = activations_.d_narrow;
  const std::int64_t N = d_residual.size(0), C = config_.channels;
  const Tensor d_pre_gelu = activations_.d_wide;
  const Tensor d_qkv = activations_.d_wide.prefix({batch_, time_, 3 * C});

  backend_.run(LinearBackward{.d_x = d_pre_gelu,
                              .d_weight = d.mlp_proj.weight,
                              .d_bias = d.mlp_proj.bias,
                              .d_out = d_residual,
                              .x = a.gelu,
                              .weight = p.mlp_proj.weight,
                              .pre_gelu = a.pre_gelu,
                              .accumulate = accumulate});
  backend_.run(LinearBackward{.d_x = d_narrow,
                              .d_weight = d.fc.weight,
                              .d_bias = d.fc.bias,
                              .d_out = d_pre_gelu,
                              .x = a.ln2,
                              .weight = p.fc.weight,
                              .pre_gelu = {},
                              .accumulate = accumulate});
  backend_.run(LayerNormBackward{.d_x = d_residual,
                                 .d_gain = d.ln2.gain,
                                 .d_bias = d.ln2.bias,
                                 .d_out = d_narrow,
                                 .d_residual = d_residual,
                                 .x = a.middle,
                                 .gain = p.ln2.gain,
                                 .mean = a.ln2_mean,
                                 .rstd = a.ln2_rstd,
                                 .accumulate = accumulate});
  backend_.run(LinearBackward{.d_x = d_narrow,
                              .d_weight = d.attention_proj.weight,
                              .d_bias = d.attention_proj.bias,
                              .d_out = d_residual,
                              .x = a.attention.view({N, C}),
                              .weight = p.attention_proj.weight,
                              .pre_gelu = {},
                              .accumulate = accumulate});
  backend_.run(AttentionBackward{.d_qkv = d_qkv,
                                 .d_out = d_narrow.view({batch_, time_, C}),
                                 .qkv = a.qkv,
                                 .out = a.attention,
                                 .log_sum_exp = a.log_sum_exp});
  backend_.run(LinearBackward{.d_x = d_narrow,
                              .d_weight = d.qkv.weight,
                              .d_bias = d.qkv.bias,
                              .d_out = d_qkv.view({N, 3 * C}),
                              .x = a.ln1,
                              .weight = p.qkv.weight,
                              .pre_gelu = {},
                              .accumulate = accumulate});
  backend_.run(LayerNormBackward{.d_x = d_residual,
                                 .d_gain = d.ln1.gain,
                                 .d_bias = d.ln1.bias,
                                 .d_out = d_narrow,
                                 .d_residual = d_residual,
                                 .x = activations_.residual[layer],
                                 .gain = p.ln1.gain,
                                 .mean = a.ln1_mean,
                                 .rstd = a.ln1_rstd,
                                 .accumulate = accumulate});
}

// Logits of `rows` rows of the final LayerNorm, in the one chunk of memory that there is for them.
LinearForward Gpt2::head_chunk(std::int64_t begin, std::int64_t rows) const {
  return {.out = activations_.logits.slice(0, rows),
          .pre_gelu = {},
          .x = activations_.final_ln.slice(begin, rows),
          .weight = values_.token_embedding,
          .bias = {},
          .residual = {}};
}

// Logits (rows, V) of rows of the final LayerNorm, on the host.
std::vector<float> Gpt2::head_logits(std::int64_t begin, std::int64_t rows) {
  const LinearForward head = head_chunk(begin, rows);
  backend_.run(head);
  const auto V = static_cast<std::size_t>(config_.vocab);
  std::vector<float> logits(static_cast<std::size_t>(rows) * V);
  std::vector<Bf16> stored(options_.precision == DType::bf16 ? V : 0);
  for (std::int64_t row = 0; row < rows; ++row) {
    float* values = logits.data() + static_cast<std::size_t>(row) * V;
    const Tensor from = head.out.slice(row, 1).prefix({config_.vocab});
    if (options_.precision == DType::fp32) {
      backend_.download(values, from);
    } else {
      backend_.download(stored.data(), from);
      std::transform(stored.begin(), stored.end(), values, [](Bf16 x) { return to_float(x); });
    }
  }
  return logits;
}

void Gpt2::head_losses() {
  const Activations& a = activations_;
  const std::int64_t N = batch_ * time_;
  for (std::int64_t begin = 0; begin < N; begin += a.logits.size(0)) {
    const std::int64_t rows = std::min(a.logits.size(0), N - begin);
    const LinearForward head = head_chunk(begin, rows);
    backend_.run(head);
    backend_.run(CrossEntropy{.losses = a.losses.slice(begin, rows),
                              .d_logits = {},
                              .logits = head.out,
                              .targets = a.targets.view({N}).slice(begin, rows),
                              .vocab = config_.vocab,
                              .scale = 1});
  }
}

// Each chunk of logits is made, turned into its gradient in place, and used up.
void Gpt2::head_forward_backward(float loss_scale, bool accumulate) {
  const Activations& a = activations_;
  const std::int64_t N = batch_ * time_;
  for (std::int64_t begin = 0; begin < N; begin += a.logits.size(0)) {
    const std::int64_t rows = std::min(a.logits.size(0), N - begin);
    const LinearForward head = head_chunk(begin, rows);
    backend_.run(head);
    backend_.run(CrossEntropy{.losses = a.losses.slice(begin, rows),
                              .d_logits = head.out,
                              .logits = head.out,
                              .targets = a.targets.view({N}).slice(begin, rows),
                              .vocab = config_.vocab,
                              .scale = loss_scale});
    backend_.run(LinearBackward{.d_x = a.d_narrow.slice(begin, rows),
                                .d_weight = gradients_.token_embedding,
                                .d_bias = {},
                                .d_out = head.out,
                                .x = head.x,
                                .weight = values_.token_embedding,
                                .pre_gelu = {},
                                .accumulate = accumulate || begin > 0});
  }
  backend_.run(LayerNormBackward{.d_x = a.d_residual,
                                 .d_gain = gradients_.final_ln.gain,
                                 .d_bias = gradients_.final_ln.bias,
                                 .d_out = a.d_narrow,
                                 .d_residual = {},
                                 .x = a.residual.back(),
                                 .gain = values_.final_ln.gain,
                                 .mean = a.final_ln_mean,
                                 .rstd = a.final_ln_rstd,
                                 .accumulate = accumulate});
}

}  // namespace lathe
