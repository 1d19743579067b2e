// The instruction set: one plain struct per operation, every operand named, with its shape.
// The caller fills it by name and hands it to Backend::run, which checks it once for all devices.
//
// Dimensions: B sequences, T positions, N = B*T rows, C channels, H heads, V vocabulary, Vp
// padded vocabulary, I/O inputs/outputs of a linear layer.
// "compute" is fp32 or bf16, the same for all compute operands of one operation; everything that
// accumulates is fp32. Parameter gradients: `accumulate` adds to what is there, otherwise they are
// written. Activation gradients are always written. An empty Tensor is an absent operand.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "lathe/tensor.h"
#include "lathe/update_limits.h"

namespace lathe {

// out[b,t] = token_table[tokens[b,t]] + position_table[t]
struct EmbeddingForward {
  static constexpr const char* kName = "embedding_forward";
  Tensor out;             // (B, T, C) compute
  Tensor tokens;          // (B, T) int32, each in [0, Vp)
  Tensor token_table;     // (Vp, C) compute
  Tensor position_table;  // (context >= T, C) compute
};

// The token table's gradient is always added to: the tied head has written it before.
struct EmbeddingBackward {
  static constexpr const char* kName = "embedding_backward";
  Tensor d_token_table;     // (Vp, C) fp32, added to
  Tensor d_position_table;  // (context, C) fp32; rows from T on become 0 when not accumulating
  Tensor d_out;             // (B, T, C) compute
  Tensor tokens;            // (B, T) int32
  bool accumulate;          // of d_position_table
};

// out = (x - mean) * rstd * gain + bias, per row; Ba et al. 2016, eps 1e-5 inside the root.
struct LayerNormForward {
  static constexpr const char* kName = "layernorm_forward";
  static constexpr float kEpsilon = 1e-5f;
  Tensor out;         // (N, C) compute
  Tensor mean, rstd;  // (N) fp32
  Tensor x;           // (N, C) compute
  Tensor gain, bias;  // (C) compute
};

// d_x = d_residual + (gradient of x through the normalisation). d_x may be d_residual's memory.
struct LayerNormBackward {
  static constexpr const char* kName = "layernorm_backward";
  Tensor d_x;             // (N, C) compute
  Tensor d_gain, d_bias;  // (C) fp32
  Tensor d_out;           // (N, C) compute
  Tensor d_residual;      // (N, C) compute, or empty
  Tensor x;               // (N, C) compute
  Tensor gain;            // (C) compute
  Tensor mean, rstd;      // (N) fp32
  bool accumulate;
};

// y = x weight^T + bias. Without pre_gelu: out = y + residual. With it: pre_gelu = y and
// out = gelu(y) (tanh form, Hendrycks & Gimpel 2016); then residual is empty.
struct LinearForward {
  static constexpr const char* kName = "linear_forward";
  Tensor out;       // (N, O) compute
  Tensor pre_gelu;  // (N, O) compute, or empty
  Tensor x;         // (N, I) compute
  Tensor weight;    // (O, I) compute
  Tensor bias;      // (O) compute, or empty
  Tensor residual;  // (N, O) compute, or empty; may be out's memory
};

// d_x = d_out weight, times gelu'(pre_gelu) when x = gelu(pre_gelu) was made by the layer below;
// d_weight = d_out^T x; d_bias = column sums of d_out.
struct LinearBackward {
  static constexpr const char* kName = "linear_backward";
  Tensor d_x;       // (N, I) compute, or empty when not wanted
  Tensor d_weight;  // (O, I) fp32
  Tensor d_bias;    // (O) fp32, or empty
  Tensor d_out;     // (N, O) compute
  Tensor x;         // (N, I) compute
  Tensor weight;    // (O, I) compute
  Tensor pre_gelu;  // (N, I) compute, or empty
  bool accumulate;
};

// Causal self-attention, softmax(q k^T / sqrt(C/H)) v, tiled with online softmax (Milakov &
// Gimelshein 2018; Dao 2023): no (T, T) buffer. qkv holds q, k, v of a row side by side, each
// cut into H heads of C/H channels; H is log_sum_exp's.
struct AttentionForward {
  static constexpr const char* kName = "attention_forward";
  Tensor out;          // (B, T, C) compute
  Tensor log_sum_exp;  // (B, H, T) fp32, of the scaled scores
  Tensor qkv;          // (B, T, 3C) compute
};

struct AttentionBackward {
  static constexpr const char* kName = "attention_backward";
  Tensor d_qkv;        // (B, T, 3C) compute
  Tensor d_out;        // (B, T, C) compute
  Tensor qkv;          // (B, T, 3C) compute
  Tensor out;          // (B, T, C) compute
  Tensor log_sum_exp;  // (B, H, T) fp32
};

// Causal attention of T new positions, which follow `begin` others: writes their keys and values
// into rows [begin, begin + T) of the cache, then attends from position begin + t to rows
// [0, begin + t]. S positions, D = C/H; the cache holds a head's rows side by side, as a decoding
// step reads them.
struct AttentionCached {
  static constexpr const char* kName = "attention_cached";
  Tensor out;           // (B, T, C) compute
  Tensor keys, values;  // (B, H, S, D) compute: the cache, rows [0, begin) filled
  Tensor qkv;           // (B, T, 3C) compute, as of AttentionForward
  std::int64_t begin;   // begin + T <= S
};

// losses[n] = -log softmax(logits[n, :vocab])[targets[n]]. When d_logits is given it becomes
// (softmax - one_hot) * scale, and 0 in the padded columns; it may be the memory of logits.
struct CrossEntropy {
  static constexpr const char* kName = "cross_entropy";
  Tensor losses;       // (N) fp32
  Tensor d_logits;     // (N, Vp) compute, or empty
  Tensor logits;       // (N, Vp) compute
  Tensor targets;      // (N) int32, each in [0, vocab)
  std::int64_t vocab;  // V <= Vp
  float scale;         // 1 / (tokens per step)
};

// A range of elements of flat parameter memory.
struct ElementRange {
  std::int64_t begin, end;
};

// AdamW with bias correction and decoupled decay (Loshchilov & Hutter 2019), and clipping by
// global norm: the gradient is scaled by min(1, grad_clip / (sqrt(grad_square_sum) + 1e-6)),
// on the device, so that the norm needs no round trip. grad_clip 0 is off. With a loss or a norm
// that is not finite or above `limits` nothing is written: such a step never reaches the
// parameters.
struct AdamWUpdate {
  static constexpr const char* kName = "adamw_update";
  Tensor parameter;                       // (P) compute; with fp32 it is its own master
  Tensor master;                          // (P) fp32, or empty when parameter is fp32
  Tensor m, v;                            // (P) fp32
  Tensor gradient;                        // (P) fp32
  Tensor grad_square_sum;                 // (1) fp32
  Tensor loss_sum;                        // (1) fp32
  std::span<const ElementRange> decayed;  // sorted, disjoint: where weight_decay applies
  UpdateLimits limits;                    // of loss_sum and grad_square_sum
  std::int64_t step;                      // 1 for the first update
  double learning_rate, beta1, beta2, eps, weight_decay, grad_clip;
};

// What is the same for all elements of an update, rounded to fp32 once; g is the clipped gradient:
//   m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2,
//   parameter -= rate * m / (sqrt(v) * root_correction + eps) + decay * parameter.
struct AdamWCoefficients {
  float beta1, beta2, one_minus_beta1, one_minus_beta2, rate, root_correction, eps, decay;
};
AdamWCoefficients coefficients(const AdamWUpdate& op);

// out = sum of x_i^2, summed in an order that depends on the count alone.
struct SumOfSquares {
  static constexpr const char* kName = "sum_of_squares";
  Tensor out;  // (1) fp32
  Tensor x;    // (P) fp32
};

// out = sum of x_i, or added to out.
struct Sum {
  static constexpr const char* kName = "sum";
  Tensor out;  // (1) fp32
  Tensor x;    // (N) fp32
  bool accumulate;
};

// out = x, between fp32 and bf16.
struct Convert {
  static constexpr const char* kName = "convert";
  Tensor out;
  Tensor x;
};

struct Fill {
  static constexpr const char* kName = "fill";
  Tensor out;  // compute or fp32
  float value;
};

// Work of one operation, for achieved rates. Flops count a multiply-add as two and causal
// attention at half of the full square; bytes count each operand once.
struct Cost {
  double flops = 0;
  double bytes = 0;
};

// Shape and type checks: throw Error(internal) naming the operation and both values.
void check(const EmbeddingForward& op);
void check(const EmbeddingBackward& op);
void check(const LayerNormForward& op);
void check(const LayerNormBackward& op);
void check(const LinearForward& op);
void check(const LinearBackward& op);
void check(const AttentionForward& op);
void check(const AttentionBackward& op);
void check(const AttentionCached& op);
void check(const CrossEntropy& op);
void check(const AdamWUpdate& op);
void check(const SumOfSquares& op);
void check(const Sum& op);
void check(const Convert& op);
void check(const Fill& op);

Cost cost(const EmbeddingForward& op);
Cost cost(const EmbeddingBackward& op);
Cost cost(const LayerNormForward& op);
Cost cost(const LayerNormBackward& op);
Cost cost(const LinearForward& op);
Cost cost(const LinearBackward& op);
Cost cost(const AttentionForward& op);
Cost cost(const AttentionBackward& op);
Cost cost(const AttentionCached& op);
Cost cost(const CrossEntropy& op);
Cost cost(const AdamWUpdate& op);
Cost cost(const SumOfSquares& op);
Cost cost(const Sum& op);
Cost cost(const Convert& op);
Cost cost(const Fill& op);

// What an operation writes, under its names here; absent operands are left out.
struct OutputTensor {
  const char* name;
  Tensor tensor;
};
struct Outputs {
  std::vector<OutputTensor> written;
  Tensor parameter;  // whose layer it is: the parameter or its gradient; empty: of none
};
Outputs outputs(const EmbeddingForward& op);
Outputs outputs(const EmbeddingBackward& op);
Outputs outputs(const LayerNormForward& op);
Outputs outputs(const LayerNormBackward& op);
Outputs outputs(const LinearForward& op);
Outputs outputs(const LinearBackward& op);
Outputs outputs(const AttentionForward& op);
Outputs outputs(const AttentionBackward& op);
Outputs outputs(const AttentionCached& op);
Outputs outputs(const CrossEntropy& op);
Outputs outputs(const AdamWUpdate& op);
Outputs outputs(const SumOfSquares& op);
Outputs outputs(const Sum& op);
Outputs outputs(const Convert& op);
Outputs outputs(const Fill& op);

}  // namespace lathe
