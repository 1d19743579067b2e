// lathe bench: how long a training step takes, and where its time goes.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "bench_floor.h"
#include "lathe/adamw.h"
#include "lathe/commands.h"
#include "lathe/model_files.h"
#include "lathe/plan.h"
#include "lathe/random.h"

namespace lathe {
namespace {

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

// Adds up what each kind of operation took.
class Breakdown final : public Tracer {
 public:
  struct Entry {
    std::int64_t calls = 0;
    double seconds = 0;
    Cost cost;
  };

  void record(const TimedOperation& operation) override {
    Entry& entry = entries_[operation.name];
    ++entry.calls;
    entry.seconds += operation.seconds();
    entry.cost.flops += operation.cost.flops;
    entry.cost.bytes += operation.cost.bytes;
  }

  double bytes(const char* name) const { return entries_.at(name).cost.bytes; }

  std::vector<std::pair<std::string, Entry>> longest_first() const {
    std::vector<std::pair<std::string, Entry>> sorted(entries_.begin(), entries_.end());
    std::sort(sorted.begin(), sorted.end(),
              [](const auto& a, const auto& b) { return a.second.seconds > b.second.seconds; });
    return sorted;
  }

 private:
  std::map<std::string, Entry> entries_;
};

// A model with random weights and tokens: the time of a step does not depend on their values.
class BenchRun {
 public:
  BenchRun(const Options& options, Backend& backend, const ModelConfig& config)
      : options_(options),
        model_(backend, config, training_model_options(options)),
        adamw_(backend, model_.specs(), model_.parameters(), model_.gradients(),
               adamw_options(options)) {
    initialize_parameters(backend, model_.specs(), adamw_.master(), options.seed);
    adamw_.publish_master();
    const RandomKey key{.seed = options.seed, .stream = RandomStream::data_order, .substream = 0};
    for (std::int64_t i = 0; i <= options.micro_batch * options.seq_len; ++i) {
      tokens_.push_back(static_cast<std::int32_t>(uniform(key, static_cast<std::uint64_t>(i)) *
                                                  static_cast<double>(config.vocab)));
    }
  }

  double step() {
    const double start = now();
    const std::span<const std::int32_t> tokens(tokens_);
    const std::int64_t micro_tokens = options_.micro_batch * options_.seq_len;
    for (std::int64_t done = 0; done < options_.batch_tokens; done += micro_tokens) {
      model_.forward_backward({.sequences = options_.micro_batch,
                               .seq_len = options_.seq_len,
                               .tokens = tokens.first(tokens.size() - 1),
                               .targets = tokens.last(tokens.size() - 1)},
                              1.0f / static_cast<float>(options_.batch_tokens), done > 0);
    }
    adamw_.update(++updates_, options_.lr, model_.loss_sum());
    adamw_.sums();  // waits for the device
    return now() - start;
  }

  const Gpt2& model() const { return model_; }

 private:
  const Options& options_;
  Gpt2 model_;
  AdamW adamw_;
  std::vector<std::int32_t> tokens_;
  std::int64_t updates_ = 0;
};

// As llm.c counts: 6 for each parameter and token, and causal attention.
double utilization(const Options& options, const ModelConfig& config, std::int64_t parameters,
                   double step_seconds, double product_rate) {
  const auto per_token =
      static_cast<double>(6 * parameters + 6 * config.layers * config.channels * options.seq_len);
  return per_token * static_cast<double>(options.batch_tokens) / step_seconds / product_rate;
}

}  // namespace

int bench_command(const Options& given) {
  Options options = given;
  resolve(options);
  const ModelConfig config =
      complete_config(options, options.vocab > 0 ? options.vocab : assumed_vocab(options.model));
  const std::unique_ptr<Backend> backend = make_backend(options);
  BenchRun run(options, *backend, config);

  run.step();  // warms up
  std::vector<double> seconds;
  for (std::int64_t i = 0; i < options.steps; ++i) seconds.push_back(run.step());
  Breakdown breakdown;
  backend->set_tracer(&breakdown);
  const double traced = run.step();
  backend->set_tracer(nullptr);

  const double step = median(seconds);
  const std::int64_t parameters = parameter_count(run.model().specs());
  const Floor floor = measure_floor(options, config, *backend, breakdown.bytes(AdamWUpdate::kName));
  const double mfu = utilization(options, config, parameters, step, floor.product_rate);
  const double rate = static_cast<double>(options.batch_tokens) / step;
  if (options.json) {
    nlohmann::ordered_json operations = nlohmann::ordered_json::array();
    for (const auto& [name, entry] : breakdown.longest_first()) {
      operations.push_back({{"name", name},
                            {"calls", entry.calls},
                            {"ms", 1e3 * entry.seconds},
                            {"gflops_per_second", 1e-9 * entry.cost.flops / entry.seconds},
                            {"gbytes_per_second", 1e-9 * entry.cost.bytes / entry.seconds}});
    }
    const nlohmann::ordered_json json = {{"step_ms", 1e3 * step},
                                         {"tokens_per_second", rate},
                                         {"steps", options.steps},
                                         {"device", backend->description()},
                                         {"precision", options.precision},
                                         {"parameters", parameters},
                                         {"mfu", mfu},
                                         {"floor_ms", 1e3 * floor.seconds()},
                                         {"times_floor", step / floor.seconds()},
                                         {"product_gflops_per_second", 1e-9 * floor.product_rate},
                                         {"copy_gbytes_per_second", 1e-9 * floor.copy},
                                         {"triad_gbytes_per_second", 1e-9 * floor.triad},
                                         {"operations", operations}};
    fmt::print("{}\n", json.dump());
    return 0;
  }
  fmt::print("{} | {} | {} parameters | {} tokens a step\n", backend->description(),
             options.precision, parameters, options.batch_tokens);
  fmt::print(
      "step {:.1f} ms (median of {}) | {:.0f} tokens/s | MFU {:.1f} % of the products' rate\n",
      1e3 * step, options.steps, rate, 100 * mfu);
  fmt::print(
      "floor {:.1f} ms: matrix products {:.1f} ms at {:.0f} GFLOP/s, AdamW {:.1f} ms at "
      "{:.1f} GB/s (triad; copy {:.1f}) | step is {:.2f} of it\n\n",
      1e3 * floor.seconds(), 1e3 * floor.products, 1e-9 * floor.product_rate, 1e3 * floor.optimizer,
      1e-9 * floor.triad, 1e-9 * floor.copy, step / floor.seconds());
  fmt::print("{:<22}{:>7}{:>11}{:>8}{:>11}{:>9}\n", "operation", "calls", "ms", "share", "GFLOP/s",
             "GB/s");
  double inside = 0;
  for (const auto& [name, entry] : breakdown.longest_first()) {
    inside += entry.seconds;
    fmt::print("{:<22}{:>7}{:>11.2f}{:>7.1f}%{:>11.1f}{:>9.1f}\n", name, entry.calls,
               1e3 * entry.seconds, 100 * entry.seconds / traced,
               1e-9 * entry.cost.flops / entry.seconds, 1e-9 * entry.cost.bytes / entry.seconds);
  }
  fmt::print("{:<22}{:>7}{:>11.2f}{:>7.1f}%\n", "between operations", "", 1e3 * (traced - inside),
             100 * (traced - inside) / traced);
  return 0;
}

}  // namespace lathe
