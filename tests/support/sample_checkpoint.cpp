#include "support/sample_checkpoint.h"

#include <random>

namespace lathe::test {

SampleCheckpoint::SampleCheckpoint(DType precision, std::uint32_t seed)
    : specs_(parameter_specs(config())) {
  memories_.push_back({.prefix = "", .type = precision, .bytes = {}});
  memories_.push_back({.prefix = "m.", .type = DType::fp32, .bytes = {}});
  memories_.push_back({.prefix = "v.", .type = DType::fp32, .bytes = {}});
  if (precision == DType::bf16) {
    memories_.push_back({.prefix = "master.", .type = DType::fp32, .bytes = {}});
  }
  std::mt19937 random(seed);
  for (Memory& memory : memories_) {
    memory.bytes.resize(
        static_cast<std::size_t>(parameter_memory_count(specs_) * size_of(memory.type)));
    for (std::byte& byte : memory.bytes) byte = static_cast<std::byte>(random());
  }
}

std::vector<NamedTensor> SampleCheckpoint::tensors(Memory& memory) const {
  std::vector<NamedTensor> tensors;
  for (const ParameterSpec& spec : specs_) {
    std::byte* first = memory.bytes.data() + spec.offset * size_of(memory.type);
    tensors.push_back({.name = memory.prefix + spec.name,
                       .shape = spec.shape,
                       .memory = Tensor(first, memory.type, {spec.count()})});
  }
  return tensors;
}

std::vector<NamedTensor> SampleCheckpoint::model() {
  return tensors(memories_[0]);
}

std::vector<NamedTensor> SampleCheckpoint::optimizer() {
  std::vector<NamedTensor> all;
  for (Memory& memory : std::span(memories_).subspan(1)) {
    for (NamedTensor& tensor : tensors(memory)) all.push_back(std::move(tensor));
  }
  return all;
}

CheckpointData SampleCheckpoint::data(std::int64_t step) {
  return {.config = config(),
          .precision = memories_[0].type == DType::bf16 ? "bf16" : "fp32",
          .tokenizer = "bytes",
          .state = {.step = step,
                    .epoch = 3,
                    .sequence = 0xfffffffffffffff1u,
                    .tokens = step * 1000,
                    .wall_seconds = 0.1,
                    .best_val_loss = 1.0 / 3.0,
                    .best_val_step = step / 2},
          .plans = "",
          .options = "",
          .model = model(),
          .optimizer = optimizer()};
}

std::vector<std::byte> contents(std::span<const NamedTensor> tensors) {
  std::vector<std::byte> all;
  for (const NamedTensor& tensor : tensors) {
    const auto* first = static_cast<const std::byte*>(tensor.memory.data());
    all.insert(all.end(), first, first + tensor.memory.bytes());
  }
  return all;
}

}  // namespace lathe::test
