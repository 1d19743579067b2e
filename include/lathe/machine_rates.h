// What this machine can do at best, measured: the yardstick of `lathe bench`. All numbers are the
// best of several runs, with operands as warm in cache as repeated runs leave them.
#pragma once

#include <cstdint>

#include "lathe/tensor.h"

namespace lathe {

// Bytes per second over arrays far larger than any cache, each array counted once.
struct MemoryRates {
  double copy;   // a = b
  double triad;  // a = b + s c
};
MemoryRates measure_memory_rates(int threads);

// Flops per second of one large product of factors of this type, neither transposed, through oneDNN
// at the tile shape that is fastest here: no product of a training step is faster.
double measure_product_rate(int threads, DType compute);

// Products of a linear layer with N rows, I inputs and O outputs.
struct LinearSize {
  std::int64_t N, I, O;
};

struct LinearRates {
  double flops;            // of forward, d_x and d_weight together
  double best_seconds;     // each product at the tile shape that was fastest here
  double default_seconds;  // each at the shape that it is given in training
};
LinearRates measure_linear(int threads, DType compute, const LinearSize& size);

}  // namespace lathe
