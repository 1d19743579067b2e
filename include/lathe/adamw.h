// The AdamW optimizer: moments and, for bf16 training, fp32 master weights, as flat memory with one
// element for each of the model's parameters that this rank updates: all, or its parts
// (sharding.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "lathe/backend.h"
#include "lathe/communicator.h"
#include "lathe/model_config.h"
#include "lathe/sharding.h"

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
        const Tensor& gradients, const AdamWOptions& options, Communicator& communicator = alone());

  Tensor m() const { return m_; }
  Tensor v() const { return v_; }
  // The fp32 values that updates apply to: the parameters themselves when those are fp32.
  Tensor master() const { return master_.empty() ? parameters_ : master_; }
  bool has_own_master() const { return !master_.empty(); }

  // The same with where their elements belong.
  Slices slices_of(const Tensor& memory) const { return {owned_, memory}; }
  Slices master_slices() const { return has_own_master() ? slices_of(master_) : parameters_; }
  const std::vector<ElementRange>& owned() const {
    return owned_;
  }  // elements that are updated here

  // Rounds the master weights into the parameters, after they were set from outside.
  void publish_master();

  // Begins to add up the gradients of a block over all ranks, once the backward pass of a step's
  // last micro-batch is through with it: to be called for each ParameterSpec::block once before an
  // update, in the same order on all ranks.
  void reduce_gradients(int block);
  void reduce_gradients();  // of all blocks

  // Update number `step` (1 is the first). `loss_sum`: (1) fp32, of this rank's tokens. With a loss
  // or a norm that is not finite or above `limits` everything stays as it is. Alone, nothing is
  // awaited.
  void update(std::int64_t step, double learning_rate, const Tensor& loss_sum,
              const UpdateLimits& limits = {});

  // Of the last update, over all ranks. Waits for the device: the one download of a step.
  struct Sums {
    float gradient_norm;  // before clipping
    float loss;
    bool updated;  // whether the parameters have changed
  };
  Sums sums() const;

  // Elements in memory where weight decay applies.
  const std::vector<ElementRange>& decayed() const { return decayed_; }

  // Bytes that the optimizer takes of a rank alone, for a model of this size.
  static std::int64_t memory_bytes(std::int64_t parameter_memory_count, DType precision);

 private:
  // A range of owned_, where it lies in m, v and master, and what of it decays, from its beginning.
  struct Piece {
    ElementRange range;
    std::int64_t at;
    std::vector<ElementRange> decayed;

    Tensor of(const Tensor& whole) const {
      return whole.slice(range.begin, range.end - range.begin);
    }
    Tensor of_owned(const Tensor& memory) const {
      return memory.empty() ? memory : memory.slice(at, range.end - range.begin);
    }
  };
  void make_pieces();
  void sum_squares();
  // Calls update(piece) for each, in their order; those that are done go to the other ranks while
  // the next ones are made.
  void update_pieces(const std::function<void(const Piece&)>& update);
  void gather_parameters(std::size_t& next, std::int64_t end);

  Backend& backend_;
  Communicator& communicator_;
  Tensor parameters_, gradients_;
  AdamWOptions options_;
  std::vector<Bucket> buckets_;
  std::vector<ElementRange> owned_, decayed_;
  std::vector<Piece> pieces_;
  Buffer memory_;
  Tensor m_, v_, master_;
  Tensor sums_;          // (2): the gradients' sum of squares, the loss sum
  Tensor square_sums_;   // (pieces), of each; where there is one piece, in sums_
  UpdateLimits limits_;  // of the last update
};

}  // namespace lathe
