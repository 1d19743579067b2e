// A small model's memory with values of its own, to be saved and loaded.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "lathe/checkpoint.h"

namespace lathe::test {

// Flat memory as a model and its optimizer have it: padding rows included, one entry per
// parameter in each of values, m, v and, with bf16, master.
class SampleCheckpoint {
 public:
  // Every byte of it is a function of `seed`, padding included.
  SampleCheckpoint(DType precision, std::uint32_t seed);

  static ModelConfig config() {
    return {.layers = 1, .heads = 1, .channels = 2, .context = 3, .vocab = 5};
  }
  CheckpointData data(std::int64_t step);
  std::vector<NamedTensor> model();
  std::vector<NamedTensor> optimizer();

 private:
  struct Memory {
    std::string prefix;  // of the tensors' names
    DType type;
    std::vector<std::byte> bytes;
  };
  std::vector<NamedTensor> tensors(Memory& memory) const;

  std::vector<ParameterSpec> specs_;
  std::vector<Memory> memories_;  // values first
};

// The elements of tensors, one after another: what a checkpoint is about.
std::vector<std::byte> contents(std::span<const NamedTensor> tensors);

}  // namespace lathe::test
