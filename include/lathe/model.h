// GPT-2 (Radford et al. 2019), written once over the operations of ops.h: learned positions,
// LayerNorm before each sublayer, tanh GELU, output head tied to the token embedding.
//
// All memory is taken by the constructor. Dimensions as in ops.h; N = B*T rows of a micro-batch.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "lathe/arena.h"
#include "lathe/backend.h"
#include "lathe/model_config.h"
#include "lathe/sharding.h"

namespace lathe {

enum class Recompute { none, block };

struct ModelOptions {
  std::int64_t micro_batch;  // most sequences of one call, where each has seq_len positions
  std::int64_t seq_len;      // most positions of a sequence, at most the model's context
  DType precision;           // compute type: fp32 or bf16
  Recompute recompute;       // block: keep what is narrow and costly, make the rest again
  bool training;             // false: no gradients, no memory for them
  std::int64_t most_logits = std::int64_t{1} << 24;  // of one chunk of the head
};

// Tokens and targets of a micro-batch, (B, T) each, on the host.
struct Batch {
  std::int64_t sequences, seq_len;
  std::span<const std::int32_t> tokens;
  std::span<const std::int32_t> targets;  // the token after each token
};

struct LinearParameters {
  Tensor weight, bias;  // (O, I), (O)
};
struct LayerNormParameters {
  Tensor gain, bias;  // (C), (C)
};
struct BlockParameters {
  LayerNormParameters ln1;
  LinearParameters qkv, attention_proj;  // (3C, C), (C, C)
  LayerNormParameters ln2;
  LinearParameters fc, mlp_proj;  // (4C, C), (C, 4C)
};
struct ModelParameters {
  Tensor token_embedding;     // (Vp, C)
  Tensor position_embedding;  // (context, C)
  std::vector<BlockParameters> blocks;
  LayerNormParameters final_ln;
};

// What a block's forward keeps for its backward. Of attention, log_sum_exp and middle each block
// has its own while training; the rest is shared memory with recompute or without training.
struct BlockActivations {
  Tensor ln1, ln1_mean, ln1_rstd;  // (N, C), (N), (N)
  Tensor qkv;                      // (B, T, 3C)
  Tensor attention, log_sum_exp;   // (B, T, C), (B, H, T)
  Tensor middle;                   // (N, C) residual stream between the sublayers
  Tensor ln2, ln2_mean, ln2_rstd;  // (N, C), (N), (N)
  Tensor pre_gelu, gelu;           // (N, 4C)
};

struct Activations {
  Tensor tokens, targets;                // (B, T) int32
  std::vector<Tensor> residual;          // L + 1 of (N, C): each block's input, and the last output
  std::vector<BlockActivations> blocks;  // L
  Tensor final_ln, final_ln_mean, final_ln_rstd;  // (N, C), (N), (N)
  Tensor logits;                                  // (head rows, Vp), one chunk at a time
  Tensor losses, loss_sum;                        // (N), (1) fp32
  Tensor d_residual, d_narrow;                    // (N, C); training only
  Tensor d_wide;                                  // (N, 4C); training only
};

// Places the activations of B sequences of T positions.
Activations lay_out_activations(Arena& arena, const ModelConfig& config,
                                const ModelOptions& options, std::int64_t B, std::int64_t T);

// Keys and values of the positions that sequences have so far: all that their next position needs.
struct KeyValueCache {
  std::vector<Tensor> keys, values;  // L of (B, H, S, D), D = C/H
};

// Places the cache of B sequences of up to S positions.
KeyValueCache lay_out_cache(Arena& arena, const ModelConfig& config, DType compute, std::int64_t B,
                            std::int64_t S);

// New tokens of the sequences [first, first + count) of a cache, each of which has `begin`
// positions already. Either one token for each of them, or one row of tokens for all.
struct Continuation {
  std::span<const std::int32_t> tokens;  // (count), or (T) when shared
  bool shared;
  std::int64_t first, count;
  std::int64_t begin;  // with the new ones at most the cache's S and the model's seq_len
};

class Gpt2 {
 public:
  Gpt2(Backend& backend, const ModelConfig& config, const ModelOptions& options);

  const ModelConfig& config() const { return config_; }
  const ModelOptions& options() const { return options_; }
  const std::vector<ParameterSpec>& specs() const { return specs_; }

  Tensor parameters() const;  // flat, (P) compute, laid out by specs()
  Tensor gradients() const;   // flat, (P) fp32

  // Forward, loss and backward of one micro-batch. `loss_scale` is 1 / (tokens per step): gradients
  // are those of the step's mean loss. `accumulate` adds to gradients and loss_sum. `block_is_done`
  // is told of each ParameterSpec::block when its gradients are whole, the last block first; what
  // it does then comes between operations that go on.
  using BlockIsDone = std::function<void(int block)>;
  void forward_backward(const Batch& batch, float loss_scale, bool accumulate,
                        const BlockIsDone& block_is_done = {});

  // Forward and losses alone; loss_sum is not touched.
  void forward(const Batch& batch);

  // Sum of the token losses since the last call that did not accumulate, in nats: (1) fp32.
  Tensor loss_sum() const { return activations_.loss_sum; }

  // The losses of the last call's tokens, (B, T) in nats.
  std::vector<float> losses() const;

  // Logits (V) of the token after `tokens`, at most seq_len of them.
  std::vector<float> next_token_logits(std::span<const std::int32_t> tokens);

  // The same with what is in a cache before the tokens, and with them added to it: logits (count,
  // V), or (V) when the tokens are shared.
  std::vector<float> next_token_logits(const KeyValueCache& cache, const Continuation& next);

 private:
  // What the positions of a forward pass follow: nothing, or the sequences of a continuation.
  struct Past {
    const KeyValueCache* cache = nullptr;  // nullptr: nothing
    std::int64_t first = 0, count = 0, begin = 0;
  };

  void load(const Batch& batch);
  void run_micro_step(float loss_scale, bool accumulate, const BlockIsDone& block_is_done);
  void forward_blocks(const Past& past);
  void forward_block(std::size_t layer, const Past& past);
  void make_qkv(std::size_t layer);   // from the block's input
  void make_gelu(std::size_t layer);  // from the residual stream between the sublayers
  void recompute_block(std::size_t layer);
  void attend(std::size_t layer, const Past& past);
  std::vector<float> head_logits(std::int64_t begin, std::int64_t rows);
  void backward_block(std::size_t layer, bool accumulate);
  void head_losses();
  void head_forward_backward(float loss_scale, bool accumulate);
  LinearForward head_chunk(std::int64_t begin, std::int64_t rows) const;

  Backend& backend_;
  ModelConfig config_;
  ModelOptions options_;
  std::vector<ParameterSpec> specs_;
  Buffer parameter_memory_, gradient_memory_, activation_memory_;
  std::unique_ptr<Recorder> recorder_;  // of micro-steps
  ModelParameters values_, gradients_;
  Activations activations_;
  std::int64_t batch_ = 0, time_ = 0;  // the shape activations_ is laid out for
};

// The parameter tensors within flat memory of one element per entry of parameter_specs.
ModelParameters bind_parameters(const std::vector<ParameterSpec>& specs, const Tensor& memory);

// Writes GPT-2's initial values into fp32 memory, as far as their elements are there: a pure
// function of (seed, parameter's place in specs, element), whatever the padding.
void initialize_parameters(Backend& backend, const std::vector<ParameterSpec>& specs,
                           const Slices& memory, std::uint64_t seed);

}  // namespace lathe
