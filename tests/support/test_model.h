// A model with its backend and optimizer, for tests of the whole.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "lathe/adamw.h"
#include "lathe/model.h"

namespace lathe::test {

class TestModel {
 public:
  struct Spec {
    ModelConfig config;
    ModelOptions options;
    AdamWOptions adamw = {
        .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1, .grad_clip = 1};
    int threads = 1;
  };

  explicit TestModel(const Spec& spec);  // on make_test_backend()
  TestModel(const Spec& spec, std::unique_ptr<Backend> backend);

  Backend& backend() { return *backend_; }
  Gpt2& model() { return model_; }
  AdamW& adamw() { return adamw_; }
  const std::vector<ParameterSpec>& specs() const { return model_.specs(); }

  // GPT-2's initial values for a seed; `scale` times those that are random.
  void initialize(std::uint64_t seed, float scale = 1);

  // Sets the master weights of a parameter; publish() when all are set.
  void set(const ParameterSpec& spec, std::span<const float> values);
  void publish() { adamw_.publish_master(); }

  // Forward and backward of a step, `cuts[i]` sequences in its micro-batch i. Returns the mean
  // loss.
  double forward_backward(const Batch& step, std::span<const std::int64_t> cuts);
  double forward_backward(const Batch& step);  // in one micro-batch

  // Of the last forward_backward, in nats over all its tokens.
  float loss_sum();

  AdamW::Sums update(std::int64_t step, double learning_rate, const UpdateLimits& limits = {});

  // A parameter's part of flat memory (values, gradients, m, v), without padding rows, as floats.
  std::vector<float> values(const ParameterSpec& spec, const Tensor& flat);

  // Bytes of all of parameters, gradients, m, v and master, padding and all.
  std::vector<std::byte> state_bytes();

 private:
  std::unique_ptr<Backend> backend_;
  Gpt2 model_;
  AdamW adamw_;
};

// Tokens and targets, a pure function of the arguments.
struct RandomTokens {
  RandomTokens(std::int64_t sequences, std::int64_t seq_len, std::int64_t vocab,
               std::uint64_t seed);
  Batch batch() const { return {sequences, seq_len, tokens, targets}; }

  std::int64_t sequences, seq_len;
  std::vector<std::int32_t> tokens, targets;
};

}  // namespace lathe::test
