// The AdamW optimizer: moments and, for bf16 training, fp32 master weights, as flat memory with one
// element per element of the model's parameters.
#pragma once

#include <cstdint>
#include <vector>

#include "lathe/backend.h"
#include "lathe/model_config.h"

namespace lathe {

struct AdamWOptions {
  double beta1, beta2, eps;
  double weight_decay;  // on matrices and embeddings
  double grad_clip;     // of the global norm; 0 is off
};

class AdamW {
 public:
  // `parameters` and `gradients`: the model's flat memory, laid out by `specs`.
  AdamW(Backend& backend, const std::vector<ParameterSpec>& specs, const Tensor& parameters,
        const Tensor& gradients, const AdamWOptions& options);

  Tensor m() const { return m_; }
  Tensor v() const { return v_; }
  // The fp32 values that updates apply to: the parameters themselves when those are fp32.
  Tensor master() const { return master_.empty() ? parameters_ : master_; }
  bool has_own_master() const { return !master_.empty(); }

  // Rounds the master weights into the parameters, after they were set from outside.
  void publish_master();

  // Update number `step` (1 is the first). `loss_sum`: (1) fp32, of the step. With a loss or a norm
  // that is not finite or above `limits` everything stays as it is. Nothing is awaited.
  void update(std::int64_t step, double learning_rate, const Tensor& loss_sum,
              const UpdateLimits& limits = {});

  // Of the last update. Waits for the device: the one download of a step.
  struct Sums {
    float gradient_norm;  // before clipping
    float loss;
    bool updated;  // whether the parameters have changed
  };
  Sums sums() const;

  // Elements in memory where weight decay applies.
  const std::vector<ElementRange>& decayed() const { return decayed_; }

  // Bytes that the optimizer takes for a model of this size.
  static std::int64_t memory_bytes(std::int64_t parameter_memory_count, DType precision);

 private:
  Backend& backend_;
  Tensor parameters_, gradients_;
  AdamWOptions options_;
  Buffer memory_;
  Tensor m_, v_, master_;
  Tensor sums_;          // (2): the gradients' sum of squares, the loss sum
  UpdateLimits limits_;  // of the last update
  std::vector<ElementRange> decayed_;
};

}  // namespace lathe
