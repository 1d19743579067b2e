// How long a run is and how a step is cut: steps x rows of seq_len tokens x micro-steps.
#pragma once

#include <cstdint>

#include "lathe/options.h"

namespace lathe {

struct Horizon {
  std::int64_t steps;
  std::int64_t rows_per_step;  // sequences of one step, over all its micro-steps
  std::int64_t micro_steps;    // of micro_batch sequences each, on every rank
  std::int64_t tokens_per_step;
};

// `sequences`: training sequences of one epoch. One epoch when no horizon was given. --tokens is
// rounded up to whole steps, --epochs down, so that no sequence is seen once more than asked.
Horizon make_horizon(const Options& options, std::int64_t sequences, int ranks = 1);

}  // namespace lathe
