// Whole runs of a tiny model in a folder of their own, and what they leave there.
#pragma once

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "lathe/backend.h"
#include "lathe/options.h"
#include "support/json.h"
#include "support/temp_dir.h"

namespace lathe::test {

// Does something when an operation of that name has run for the n-th time, for each n of a set.
class AtOperation final : public OutputObserver {
 public:
  using Action = std::function<void(const OperationOutputs&)>;

  AtOperation(std::string name, std::set<int> times, Action action)
      : name_(std::move(name)), times_(std::move(times)), action_(std::move(action)) {}

  void observe(const OperationOutputs& operation) override {
    if (name_ == operation.name && times_.contains(++count_)) action_(operation);
  }

 private:
  std::string name_;
  std::set<int> times_;
  Action action_;
  int count_ = 0;
};

class SmallRuns {
 public:
  // 8 steps of 128 tokens in two micro-batches, on `text`, in order, all that they say unsaid.
  explicit SmallRuns(const std::string& text);

  // Of `lathe train` with these arguments behind the small run's, or behind --resume alone.
  Options options(const std::string& name, const std::vector<std::string>& more) const;
  int train(const std::string& name, const std::vector<std::string>& more = {}) const;
  // The same of a new run, every operation of which is shown to what `observe` makes.
  using MakeObserver = std::function<std::unique_ptr<OutputObserver>(Backend&)>;
  int train_observed(const std::string& name, const std::vector<std::string>& more,
                     const MakeObserver& observe) const;

  std::string path(const std::string& name, const std::string& file = "") const;
  std::string file(const std::string& name, const std::string& file) const;
  nlohmann::json result(const std::string& name) const;
  nlohmann::json state(const std::string& name, std::int64_t step) const;  // of a checkpoint

  // Lines of metrics.jsonl that have `key`.
  std::vector<nlohmann::json> lines(const std::string& name, const std::string& key) const;

  // Whether the checkpoints of two runs hold the same tensors.
  bool same_tensors(const std::string& a, std::int64_t step_a, const std::string& b,
                    std::int64_t step_b) const;

 private:
  TempDir folder_;
  std::string text_;
};

}  // namespace lathe::test
