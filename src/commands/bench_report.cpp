#include "bench_report.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "lathe/model_files.h"

namespace lathe {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kBetween = "between operations";

std::string_view name_of(Bound bound) {
  return bound == Bound::product ? "product" : "memory";
}

DType compute_of(const BenchReport& report) {
  return parse_precision(report.precision);
}

Json ceilings_json(const Ceilings& ceilings) {
  Json json;
  if (ceilings.product_fp32 > 0) {
    json["product_fp32_gflops_per_second"] = 1e-9 * ceilings.product_fp32;
  }
  if (ceilings.product_bf16 > 0) {
    json["product_bf16_gflops_per_second"] = 1e-9 * ceilings.product_bf16;
  }
  json["copy_gbytes_per_second"] = 1e-9 * ceilings.copy;
  json["triad_gbytes_per_second"] = 1e-9 * ceilings.triad;
  return json;
}

Json operation_json(const OperationTime& operation, const BenchReport& report) {
  Json json = {{"name", operation.name},
               {"calls", operation.calls},
               {"ms", 1e3 * operation.seconds},
               {"share", operation.seconds / report.traced_seconds},
               {"gflops_per_second", 1e-9 * operation.cost.flops / operation.seconds},
               {"gbytes_per_second", 1e-9 * operation.cost.bytes / operation.seconds}};
  if (!report.has_floor) return json;
  const OperationFloor floor = floor_of(operation, report.floor.ceilings, compute_of(report));
  json["floor_ms"] = 1e3 * floor.seconds;
  json["bound"] = name_of(floor.bound);
  json["of_ceiling"] = floor.seconds / operation.seconds;
  return json;
}

std::string ceilings_text(const Ceilings& ceilings) {
  std::string text = "ceilings:";
  if (ceilings.product_fp32 > 0) {
    text += fmt::format(" {:.0f} GFLOP/s in fp32,", 1e-9 * ceilings.product_fp32);
  }
  if (ceilings.product_bf16 > 0) {
    text += fmt::format(" {:.0f} GFLOP/s in bf16,", 1e-9 * ceilings.product_bf16);
  }
  return text + fmt::format(" {:.1f} GB/s (copy {:.1f}, triad {:.1f})\n", 1e-9 * ceilings.memory(),
                            1e-9 * ceilings.copy, 1e-9 * ceilings.triad);
}

std::string floor_text(const BenchReport& report) {
  const Floor& floor = report.floor;
  return fmt::format("MFU {:.1f} % of the products' rate\n", 100 * report.utilization) +
         fmt::format(
             "floor {:.1f} ms: matrix products {:.1f} ms at {:.0f} GFLOP/s, gradients and AdamW "
             "{:.1f} ms at {:.1f} GB/s (triad) | step is {:.2f} of it\n",
             1e3 * floor.seconds(), 1e3 * floor.products, 1e-9 * floor.product_rate,
             1e3 * floor.memory, 1e-9 * floor.ceilings.triad,
             report.step_seconds / floor.seconds()) +
         ceilings_text(floor.ceilings);
}

std::string operation_text(const OperationTime& operation, const BenchReport& report) {
  std::string text =
      fmt::format("{:<22}{:>7}{:>11.2f}{:>7.1f}%{:>11.1f}{:>9.1f}", operation.name, operation.calls,
                  1e3 * operation.seconds, 100 * operation.seconds / report.traced_seconds,
                  1e-9 * operation.cost.flops / operation.seconds,
                  1e-9 * operation.cost.bytes / operation.seconds);
  if (report.has_floor) {
    const OperationFloor floor = floor_of(operation, report.floor.ceilings, compute_of(report));
    text += fmt::format("{:>7.0f}% {:<8}{:>10.2f}", 100 * floor.seconds / operation.seconds,
                        name_of(floor.bound), 1e3 * (operation.seconds - floor.seconds));
  }
  return text + "\n";
}

}  // namespace

OperationFloor floor_of(const OperationTime& operation, const Ceilings& ceilings, DType compute) {
  const double product = operation.cost.flops / ceilings.product(compute);
  const double memory = operation.cost.bytes / ceilings.memory();
  return product > memory ? OperationFloor{product, Bound::product}
                          : OperationFloor{memory, Bound::memory};
}

double BenchReport::between_operations() const {
  double inside = 0;
  for (const OperationTime& operation : operations) inside += operation.seconds;
  return traced_seconds - inside;
}

Gap widest_gap(const BenchReport& report) {
  Gap widest{.name = kBetween, .seconds = report.between_operations(), .floor_seconds = 0};
  for (const OperationTime& operation : report.operations) {
    const OperationFloor floor = floor_of(operation, report.floor.ceilings, compute_of(report));
    const Gap gap{operation.name, operation.seconds, floor.seconds};
    if (gap.above_floor() > widest.above_floor()) widest = gap;
  }
  return widest;
}

std::string bench_json(const BenchReport& report) {
  Json json = {{"step_ms", 1e3 * report.step_seconds},
               {"tokens_per_second", report.tokens_per_second()},
               {"steps", report.steps},
               {"device", report.device},
               {"precision", report.precision},
               {"parameters", report.parameters}};
  if (report.has_floor) {
    const Floor& floor = report.floor;
    const Gap gap = widest_gap(report);
    json["mfu"] = report.utilization;
    json["floor_ms"] = 1e3 * floor.seconds();
    json["floor_products_ms"] = 1e3 * floor.products;
    json["floor_memory_ms"] = 1e3 * floor.memory;
    json["times_floor"] = report.step_seconds / floor.seconds();
    json["product_gflops_per_second"] = 1e-9 * floor.product_rate;
    json["ceilings"] = ceilings_json(floor.ceilings);
    json["widest_gap"] = {
        {"name", gap.name}, {"ms", 1e3 * gap.seconds}, {"floor_ms", 1e3 * gap.floor_seconds}};
  }
  json["between_operations_ms"] = 1e3 * report.between_operations();
  json["operations"] = Json::array();
  for (const OperationTime& operation : report.operations) {
    json["operations"].push_back(operation_json(operation, report));
  }
  return json.dump() + "\n";
}

std::string bench_text(const BenchReport& report) {
  std::string text = fmt::format("{} | {} | {} parameters | {} tokens a step\n", report.device,
                                 report.precision, report.parameters, report.batch_tokens);
  text +=
      fmt::format("step {:.1f} ms (median of {}) | {:.0f} tokens/s{}", 1e3 * report.step_seconds,
                  report.steps, report.tokens_per_second(), report.has_floor ? " | " : "\n");
  if (report.has_floor) text += floor_text(report);
  text +=
      fmt::format("\n{:<22}{:>7}{:>11}{:>8}{:>11}{:>9}{}\n", "operation", "calls", "ms", "share",
                  "GFLOP/s", "GB/s", report.has_floor ? "  of its ceiling  ms above" : "");
  for (const OperationTime& operation : report.operations) {
    text += operation_text(operation, report);
  }
  text += fmt::format("{:<22}{:>7}{:>11.2f}{:>7.1f}%\n", kBetween, "",
                      1e3 * report.between_operations(),
                      100 * report.between_operations() / report.traced_seconds);
  if (!report.has_floor) return text;
  const Gap gap = widest_gap(report);
  return text + fmt::format("widest gap: {}, {:.2f} ms above its floor of {:.2f} ms\n", gap.name,
                            1e3 * gap.above_floor(), 1e3 * gap.floor_seconds);
}

}  // namespace lathe
