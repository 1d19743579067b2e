// The work of a step, counted by letting the model and the optimizer run on a device that computes
// nothing.
#include <algorithm>
#include <cstddef>
#include <unordered_map>

#include "lathe/adamw.h"
#include "lathe/backend.h"
#include "lathe/model.h"
#include "lathe/model_files.h"
#include "lathe/scale.h"
#include "lathe/sharding.h"

namespace lathe {
namespace {

// Its tensors lie somewhere, as checks of operands want, and nobody touches them.
class CountingBackend final : public Backend {
 public:
  std::string description() const override { return "counts"; }
  Buffer allocate(std::int64_t /*bytes*/) override {
    return {&somewhere_, [](std::byte* /*memory*/) {}};
  }
  void upload(const Tensor& /*to*/, const void* /*from*/) override {}
  void download(void* /*to*/, const Tensor& /*from*/) override {}
  void synchronize() override {}

 protected:
  void execute(const EmbeddingForward& /*op*/) override {}
  void execute(const EmbeddingBackward& /*op*/) override {}
  void execute(const LayerNormForward& /*op*/) override {}
  void execute(const LayerNormBackward& /*op*/) override {}
  void execute(const LinearForward& /*op*/) override {}
  void execute(const LinearBackward& /*op*/) override {}
  void execute(const AttentionForward& /*op*/) override {}
  void execute(const AttentionBackward& /*op*/) override {}
  void execute(const AttentionCached& /*op*/) override {}
  void execute(const CrossEntropy& /*op*/) override {}
  void execute(const AdamWUpdate& /*op*/) override {}
  void execute(const SumOfSquares& /*op*/) override {}
  void execute(const Sum& /*op*/) override {}
  void execute(const Convert& /*op*/) override {}
  void execute(const Fill& /*op*/) override {}

 private:
  std::byte somewhere_{};
};

// Adds up what operations take, and remembers when each block had its last one.
class WorkClock final : public Tracer {
 public:
  explicit WorkClock(const ClusterRates& rates) : rates_(rates) {}

  void record(const TimedOperation& operation) override {
    const Cost& cost = operation.cost;
    seconds_ += std::max(cost.flops / rates_.flops, cost.bytes / rates_.memory);
    last_of_layer_[operation.layer] = seconds_;
  }

  double seconds() const { return seconds_; }
  double last_of_layer(std::int64_t layer) const { return last_of_layer_.at(layer); }

 private:
  ClusterRates rates_;
  double seconds_ = 0;
  std::unordered_map<std::int64_t, double> last_of_layer_;
};

}  // namespace

StepWork estimate_work(const ModelConfig& config, const Options& options,
                       const ClusterRates& rates) {
  CountingBackend backend;
  Gpt2 model(backend, config, training_model_options(options));
  AdamW adamw(backend, model.specs(), model.parameters(), model.gradients(),
              adamw_options(options));
  WorkClock micro_step(rates), update(rates);
  backend.set_tracer(&micro_step);
  constexpr float kAnyScale = 1;
  model.forward_backward(
      {.sequences = options.micro_batch, .seq_len = options.seq_len, .tokens = {}, .targets = {}},
      kAnyScale, /*accumulate=*/false);
  backend.set_tracer(&update);
  adamw.update(/*step=*/1, options.lr, model.loss_sum());

  StepWork work{.micro_step = micro_step.seconds(),
                .update = update.seconds(),
                .buckets = {},
                .parameters = parameter_memory_count(model.specs()),
                .compute_size = size_of(model.options().precision)};
  std::vector<Bucket> buckets = make_buckets(model.specs(), /*ranks=*/1);
  std::ranges::reverse(buckets);  // as the backward pass is through with them
  for (const Bucket& bucket : buckets) {
    const bool is_block = bucket.block >= 0;  // the embeddings are whole when all is
    work.buckets.push_back(
        {.elements = count_of({bucket.range}),
         .ready = is_block ? micro_step.last_of_layer(bucket.block) : micro_step.seconds()});
  }
  return work;
}

}  // namespace lathe
