// What `lathe bench` says: where a step's time goes, and how far each operation is from what the
// machine reaches at best.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bench_floor.h"
#include "lathe/ops.h"

namespace lathe {

// All calls of one kind of operation in a step.
struct OperationTime {
  std::string name;
  std::int64_t calls = 0;
  double seconds = 0;
  Cost cost;
};

// Of the two things that an operation needs, the one that takes the machine longer at best.
enum class Bound { product, memory };

struct OperationFloor {
  double seconds;
  Bound bound;
};
OperationFloor floor_of(const OperationTime& operation, const Ceilings& ceilings, DType compute);

// The operation with the most time above its floor, or what lies between operations.
struct Gap {
  std::string name;
  double seconds, floor_seconds;

  double above_floor() const { return seconds - floor_seconds; }
};

struct BenchReport {
  std::string device, precision;
  std::int64_t parameters, batch_tokens, steps;
  double step_seconds;                    // the median
  double traced_seconds;                  // of a step whose operations are timed
  std::vector<OperationTime> operations;  // the longest first
  bool has_floor;                         // what follows has been measured
  Floor floor;
  double utilization;  // flops of the model over the products' rate

  double between_operations() const;  // seconds
  double tokens_per_second() const { return static_cast<double>(batch_tokens) / step_seconds; }
};

Gap widest_gap(const BenchReport& report);

std::string bench_json(const BenchReport& report);
std::string bench_text(const BenchReport& report);

}  // namespace lathe
