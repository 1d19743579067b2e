// The optimizer of one of several ranks: what it sends, and when.
#include "lathe/adamw.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "lathe/backend.h"
#include "lathe/model.h"

namespace lathe {
namespace {

using Events = std::vector<std::string>;

// The first of two ranks, whose other one never says anything.
class WritesDown final : public Communicator {
 public:
  explicit WritesDown(Events& events) : events_(events) {}

  int rank() const override { return 0; }
  int size() const override { return 2; }
  int local_size() const override { return 2; }
  void start_reduce_scatter(const Tensor& /*values*/,
                            std::span<const ElementRange> /*parts*/) override {
    events_.push_back("reduce_scatter");
  }
  void start_all_gather(const Tensor& /*values*/, std::span<const ElementRange> parts) override {
    events_.push_back("all_gather from " + std::to_string(parts.front().begin));
  }
  void wait() override { events_.push_back("wait"); }
  void abandon() noexcept override {}
  void sum(const Tensor& /*values*/) override { events_.push_back("sum"); }
  void sum(std::span<double> /*values*/) override {}
  std::vector<std::string> gather(const std::string& text) override { return {text, text}; }
  void require_others() override {}
  void set_trace(Trace* /*trace*/) override {}
  bool leave(const std::optional<Failure>& /*failure*/) noexcept override { return true; }

 private:
  Events& events_;
};

class Updates final : public Tracer {
 public:
  explicit Updates(Events& events) : events_(events) {}

  void record(const TimedOperation& operation) override {
    if (operation.name == std::string(AdamWUpdate::kName)) events_.push_back(operation.name);
  }

 private:
  Events& events_;
};

// A bucket goes out when it is updated, before the next one is.
TEST(AdamWOfARank, SendsParametersWhileItUpdatesOthers) {
  const std::unique_ptr<Backend> backend = make_cpu_backend(1);
  Gpt2 model(*backend, {.layers = 2, .heads = 1, .channels = 16, .context = 8, .vocab = 32},
             {.micro_batch = 1,
              .seq_len = 8,
              .precision = DType::fp32,
              .recompute = Recompute::none,
              .training = true});
  Events events;
  WritesDown communicator(events);
  AdamW adamw(*backend, model.specs(), model.parameters(), model.gradients(),
              {.beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0, .grad_clip = 0},
              communicator);
  Updates updates(events);
  backend->set_tracer(&updates);
  float loss_sum = 1;
  adamw.update(/*step=*/1, /*learning_rate=*/1e-3, Tensor(&loss_sum, DType::fp32, {1}));
  const std::vector<Bucket> buckets = make_buckets(model.specs(), 2);
  Events expected = {"wait", "sum"};
  for (const Bucket& bucket : buckets) {
    expected.push_back(AdamWUpdate::kName);
    expected.push_back("all_gather from " + std::to_string(bucket.range.begin));
  }
  expected.push_back("wait");
  EXPECT_EQ(events, expected);
}

}  // namespace
}  // namespace lathe
