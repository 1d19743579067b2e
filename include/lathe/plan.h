// What a run will take, computed from sizes alone: the layout functions that place the memory are
// run without any.
#pragma once

#include <cstdint>

#include "lathe/model.h"
#include "lathe/options.h"

namespace lathe {

struct MemoryPlan {
  std::int64_t parameters, gradients, optimizer, activations;  // bytes
  std::int64_t samples;  // keys and values of the sample that a run writes
  std::int64_t saving;   // of the host, on a GPU: what a checkpoint is written from; not in total()
  std::int64_t runtime;  // program, libraries' buffers, data: measured, see docs/performance.md

  std::int64_t total() const {
    return parameters + gradients + optimizer + activations + samples + runtime;
  }
};

// Of one rank, the one that has most. On a GPU the memory is the GPU's.
MemoryPlan plan_memory(const ModelConfig& config, const Options& options, std::int64_t ranks);

// Refuses a run that the device's own memory cannot hold, naming options with which it would.
// Errors: out_of_memory.
void require_memory(const Backend& backend, const ModelConfig& config, const Options& options,
                    std::int64_t ranks);

// Bytes of one checkpoint: parameters, m, v and, with bf16, master weights, without padding.
std::int64_t checkpoint_bytes(const ModelConfig& config, DType precision);

// The vocabulary that plan and bench take without data: bytes for tiny, GPT-2's for the others.
std::int64_t assumed_vocab(std::string_view model);

}  // namespace lathe
