// lathe bench: how long a training step takes, and where its time goes.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "base/clock.h"
#include "bench_report.h"
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
  void record(const TimedOperation& operation) override {
    OperationTime& sum = sums_[operation.name];
    sum.name = operation.name;
    ++sum.calls;
    sum.seconds += operation.seconds();
    sum.cost.flops += operation.cost.flops;
    sum.cost.bytes += operation.cost.bytes;
  }

  const Cost& cost(const char* name) const { return sums_.at(name).cost; }

  std::vector<OperationTime> longest_first() const {
    std::vector<OperationTime> sorted;
    for (const auto& [name, sum] : sums_) sorted.push_back(sum);
    std::sort(sorted.begin(), sorted.end(),
              [](const auto& a, const auto& b) { return a.seconds > b.seconds; });
    return sorted;
  }

 private:
  std::map<std::string, OperationTime> sums_;
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

// Each micro-step writes all gradients, and after the first reads them, too; the update reads them
// for their norm and in AdamW.
OtherWork other_work(const Breakdown& breakdown, const Options& options, std::int64_t parameters) {
  const std::int64_t micro_steps = options.batch_tokens / (options.micro_batch * options.seq_len);
  const std::int64_t gradient_bytes = parameters * size_of(DType::fp32);
  return {.attention_flops = breakdown.cost(AttentionForward::kName).flops +
                             breakdown.cost(AttentionBackward::kName).flops,
          .parameter_bytes = static_cast<double>((2 * micro_steps - 1) * gradient_bytes) +
                             breakdown.cost(SumOfSquares::kName).bytes +
                             breakdown.cost(AdamWUpdate::kName).bytes};
}

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

  BenchReport report{.device = backend->description(),
                     .precision = options.precision,
                     .parameters = parameter_count(run.model().specs()),
                     .batch_tokens = options.batch_tokens,
                     .steps = options.steps,
                     .step_seconds = median(seconds),
                     .traced_seconds = traced,
                     .operations = breakdown.longest_first(),
                     .has_floor = options.floor,
                     .floor = {},
                     .utilization = 0};
  if (report.has_floor) {
    report.floor =
        measure_floor(options, config, *backend, other_work(breakdown, options, report.parameters));
    report.utilization = utilization(options, config, report.parameters, report.step_seconds,
                                     report.floor.product_rate);
  }
  fmt::print("{}", options.json ? bench_json(report) : bench_text(report));
  return 0;
}

}  // namespace lathe
