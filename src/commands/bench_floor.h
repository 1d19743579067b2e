// The least that a training step can take on this machine, measured: the yardstick of `lathe
// bench`.
#pragma once

#include "lathe/backend.h"
#include "lathe/model_config.h"
#include "lathe/options.h"

namespace lathe {

// What this machine reaches at best. 0: not measured.
struct Ceilings {
  double product_fp32, product_bf16;  // flops per second of a large matrix product. GPU: of the
                                      // run's own precision alone
  double copy, triad;  // bytes per second. CPU: a = b, a = b + s c; GPU: a = b for both

  double product(DType compute) const {
    return compute == DType::bf16 ? product_bf16 : product_fp32;
  }
  double memory() const { return copy > triad ? copy : triad; }
};

struct Floor {
  double products;      // seconds of a step's matrix products, attention's among them
  double memory;        // seconds in which what is per parameter passes through memory
  double product_rate;  // flops per second. CPU: of the step's own shapes, each at its best tiling;
                        // GPU: of one large product
  Ceilings ceilings;

  double seconds() const { return products + memory; }
};

// What a step does beside the products of linear layers.
struct OtherWork {
  double attention_flops;
  double parameter_bytes;  // read and written for parameters, their gradients and moments
};

Floor measure_floor(const Options& options, const ModelConfig& config, Backend& backend,
                    const OtherWork& other);

}  // namespace lathe
