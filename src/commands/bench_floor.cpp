#include "bench_floor.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <vector>

#include "lathe/arena.h"
#include "lathe/machine_rates.h"
#include "lathe/model.h"
#include "lathe/model_files.h"

namespace lathe {
namespace {

// Linear layers of one size, and how often a step runs them.
struct Layers {
  LinearSize size;
  double count;

  double flops() const {  // forward, d_x and d_weight
    return count * 6 * static_cast<double>(size.N) * static_cast<double>(size.I) *
           static_cast<double>(size.O);
  }
};

std::vector<Layers> layers_of_step(const Options& options, const ModelConfig& config) {
  const std::int64_t N = options.micro_batch * options.seq_len, C = config.channels;
  Arena measuring;
  const Activations activations = lay_out_activations(
      measuring, config, training_model_options(options), options.micro_batch, options.seq_len);
  const std::int64_t rows = activations.logits.size(0), Vp = config.padded_vocab();
  std::vector<Layers> all;
  const auto add = [&](std::int64_t count, const LinearSize& size) {
    const std::int64_t micro_steps = options.batch_tokens / N;
    if (count > 0 && size.N > 0) all.push_back({size, static_cast<double>(micro_steps * count)});
  };
  add(config.layers, {.N = N, .I = C, .O = 3 * C});
  add(config.layers, {.N = N, .I = C, .O = C});
  add(config.layers, {.N = N, .I = C, .O = 4 * C});
  add(config.layers, {.N = N, .I = 4 * C, .O = C});
  add(N / rows, {.N = rows, .I = C, .O = Vp});
  add(1, {.N = N % rows, .I = C, .O = Vp});
  return all;
}

Floor measure_cpu(const Options& options, const std::vector<Layers>& layers,
                  const OtherWork& other) {
  const int threads = options.threads > 0 ? static_cast<int>(options.threads) : available_threads();
  const MemoryRates memory = measure_memory_rates(threads);
  const Ceilings ceilings{.product_fp32 = measure_product_rate(threads, DType::fp32),
                          .product_bf16 = measure_product_rate(threads, DType::bf16),
                          .copy = memory.copy,
                          .triad = memory.triad};
  double seconds = 0, flops = 0;
  for (const Layers& same : layers) {
    const LinearRates rates =
        measure_linear(threads, parse_precision(options.precision), same.size);
    seconds += same.count * rates.best_seconds;
    flops += same.flops();
  }
  const double rate = flops / seconds;
  return {.products = seconds + other.attention_flops / rate,
          .memory = other.parameter_bytes / memory.triad,
          .product_rate = rate,
          .ceilings = ceilings};
}

// Shortest of a few runs, each of them awaited.
template <class Op>
double seconds_of(Backend& backend, const Op& op) {
  constexpr int kRuns = 8;
  double shortest = std::numeric_limits<double>::infinity();
  for (int run = 0; run < kRuns; ++run) {
    backend.synchronize();
    const auto start = std::chrono::steady_clock::now();
    backend.run(op);
    backend.synchronize();
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    shortest = std::min(shortest, taken.count());
  }
  return shortest;
}

// A product as large as the run has work for, at most 8192 on each side.
double large_product_rate(Backend& backend, DType compute, double step_flops) {
  const double side_of_step = std::cbrt(step_flops) / 2;
  const auto side = std::clamp(static_cast<std::int64_t>(side_of_step) / 128 * 128,
                               std::int64_t{128}, std::int64_t{8192});
  const std::int64_t bytes = side * side * size_of(compute);
  const Buffer x = backend.allocate(bytes), weight = backend.allocate(bytes),
               out = backend.allocate(bytes);
  const auto matrix = [&](const Buffer& buffer) {
    return Tensor(buffer.get(), compute, {side, side});
  };
  // Zeros would cost less power, and run faster than any real product.
  for (const Buffer* factor : {&x, &weight}) {
    std::vector<float> values(static_cast<std::size_t>(side));
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] = 0.01f * static_cast<float>(static_cast<int>(i * 7919 % 201) - 100);
    }
    const Buffer row = backend.allocate(side * size_of(DType::fp32));
    const Tensor fp32_row(row.get(), DType::fp32, {side});
    backend.upload(fp32_row, values.data());
    for (std::int64_t r = 0; r < side; ++r) {
      backend.run(Convert{.out = matrix(*factor).slice(r, 1).view({side}), .x = fp32_row});
    }
    backend.synchronize();
  }
  const double seconds = seconds_of(backend, LinearForward{.out = matrix(out),
                                                           .pre_gelu = {},
                                                           .x = matrix(x),
                                                           .weight = matrix(weight),
                                                           .bias = {},
                                                           .residual = {}});
  return 2 * std::pow(static_cast<double>(side), 3) / seconds;
}

double copy_rate(Backend& backend, double parameter_bytes) {
  const std::int64_t count = std::clamp(static_cast<std::int64_t>(parameter_bytes / 8),
                                        std::int64_t{1} << 16, std::int64_t{1} << 28);
  const Buffer from = backend.allocate(count * size_of(DType::fp32)),
               to = backend.allocate(count * size_of(DType::fp32));
  const double seconds =
      seconds_of(backend, Convert{.out = Tensor(to.get(), DType::fp32, {count}),
                                  .x = Tensor(from.get(), DType::fp32, {count})});
  return 8 * static_cast<double>(count) / seconds;
}

Floor measure_gpu(const Options& options, Backend& backend, const std::vector<Layers>& layers,
                  const OtherWork& other) {
  double flops = other.attention_flops;
  for (const Layers& same : layers) flops += same.flops();
  const DType compute = parse_precision(options.precision);
  const double rate = large_product_rate(backend, compute, flops);
  const double copy = copy_rate(backend, other.parameter_bytes);
  const bool is_bf16 = compute == DType::bf16;
  return {.products = flops / rate,
          .memory = other.parameter_bytes / copy,
          .product_rate = rate,
          .ceilings = {.product_fp32 = is_bf16 ? 0 : rate,
                       .product_bf16 = is_bf16 ? rate : 0,
                       .copy = copy,
                       .triad = copy}};
}

}  // namespace

Floor measure_floor(const Options& options, const ModelConfig& config, Backend& backend,
                    const OtherWork& other) {
  const std::vector<Layers> layers = layers_of_step(options, config);
  return uses_gpu(options) ? measure_gpu(options, backend, layers, other)
                           : measure_cpu(options, layers, other);
}

}  // namespace lathe
