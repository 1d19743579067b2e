// What each operation writes, by the names of ops.h.
#include "lathe/ops.h"

namespace lathe {
namespace {

Outputs make(std::initializer_list<OutputTensor> operands, const Tensor& parameter = {}) {
  Outputs outputs{.written = {}, .parameter = parameter};
  for (const OutputTensor& operand : operands) {
    if (!operand.tensor.empty()) outputs.written.push_back(operand);
  }
  return outputs;
}

}  // namespace

Outputs outputs(const EmbeddingForward& op) {
  return make({{"out", op.out}}, op.token_table);
}

Outputs outputs(const EmbeddingBackward& op) {
  return make({{"d_token_table", op.d_token_table}, {"d_position_table", op.d_position_table}},
              op.d_token_table);
}

Outputs outputs(const LayerNormForward& op) {
  return make({{"mean", op.mean}, {"rstd", op.rstd}, {"out", op.out}}, op.gain);
}

Outputs outputs(const LayerNormBackward& op) {
  return make({{"d_x", op.d_x}, {"d_gain", op.d_gain}, {"d_bias", op.d_bias}}, op.gain);
}

Outputs outputs(const LinearForward& op) {
  return make({{"pre_gelu", op.pre_gelu}, {"out", op.out}}, op.weight);
}

Outputs outputs(const LinearBackward& op) {
  return make({{"d_x", op.d_x}, {"d_weight", op.d_weight}, {"d_bias", op.d_bias}}, op.weight);
}

Outputs outputs(const AttentionForward& op) {
  return make({{"log_sum_exp", op.log_sum_exp}, {"out", op.out}});
}

Outputs outputs(const AttentionBackward& op) {
  return make({{"d_qkv", op.d_qkv}});
}

Outputs outputs(const AttentionCached& op) {
  return make({{"keys", op.keys}, {"values", op.values}, {"out", op.out}});
}

Outputs outputs(const CrossEntropy& op) {
  return make({{"losses", op.losses}, {"d_logits", op.d_logits}});
}

Outputs outputs(const AdamWUpdate& op) {
  return make({{"m", op.m}, {"v", op.v}, {"master", op.master}, {"parameter", op.parameter}});
}

Outputs outputs(const SumOfSquares& op) {
  return make({{"out", op.out}});
}

Outputs outputs(const Sum& op) {
  return make({{"out", op.out}});
}

Outputs outputs(const Convert& op) {
  return make({{"out", op.out}});
}

Outputs outputs(const Fill& op) {
  return make({{"out", op.out}});
}

}  // namespace lathe
