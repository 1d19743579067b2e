#include "lathe/adamw.h"

#include <array>
#include <cmath>

#include "lathe/arena.h"

namespace lathe {
namespace {

struct OptimizerMemory {
  Tensor m, v, master, sums;
};

OptimizerMemory lay_out(Arena& arena, std::int64_t count, DType precision) {
  OptimizerMemory memory;
  memory.m = arena.take(DType::fp32, {count});
  memory.v = arena.take(DType::fp32, {count});
  if (precision != DType::fp32) memory.master = arena.take(DType::fp32, {count});
  memory.sums = arena.take(DType::fp32, {2});
  return memory;
}

// Neighbouring decayed tensors become one range; what lies between them is padding, always zero.
std::vector<ElementRange> decayed_ranges(const std::vector<ParameterSpec>& specs) {
  std::vector<ElementRange> ranges;
  bool joins = false;
  for (const ParameterSpec& spec : specs) {
    const std::int64_t end = spec.offset + spec.padded_count();
    if (spec.decays && joins) {
      ranges.back().end = end;
    } else if (spec.decays) {
      ranges.push_back({.begin = spec.offset, .end = end});
    }
    joins = spec.decays;
  }
  return ranges;
}

}  // namespace

AdamW::AdamW(Backend& backend, const std::vector<ParameterSpec>& specs, const Tensor& parameters,
             const Tensor& gradients, const AdamWOptions& options)
    : backend_(backend),
      parameters_(parameters),
      gradients_(gradients),
      options_(options),
      memory_(backend.allocate(memory_bytes(parameters.count(), parameters.type()))),
      decayed_(decayed_ranges(specs)) {
  Arena arena(memory_.get());
  const OptimizerMemory memory = lay_out(arena, parameters.count(), parameters.type());
  m_ = memory.m;
  v_ = memory.v;
  master_ = memory.master;
  sums_ = memory.sums;
}

std::int64_t AdamW::memory_bytes(std::int64_t parameter_memory_count, DType precision) {
  Arena measure;
  lay_out(measure, parameter_memory_count, precision);
  return measure.bytes();
}

void AdamW::publish_master() {
  if (!master_.empty()) backend_.run(Convert{.out = parameters_, .x = master_});
}

void AdamW::update(std::int64_t step, double learning_rate, const Tensor& loss_sum,
                   const UpdateLimits& limits) {
  limits_ = limits;
  const Tensor square_sum = sums_.slice(0, 1), own_loss_sum = sums_.slice(1, 1);
  backend_.run(SumOfSquares{.out = square_sum, .x = gradients_});
  backend_.run(Sum{.out = own_loss_sum, .x = loss_sum, .accumulate = false});
  backend_.run(AdamWUpdate{.parameter = parameters_,
                           .master = master_,
                           .m = m_,
                           .v = v_,
                           .gradient = gradients_,
                           .grad_square_sum = square_sum,
                           .loss_sum = own_loss_sum,
                           .decayed = decayed_,
                           .limits = limits,
                           .step = step,
                           .learning_rate = learning_rate,
                           .beta1 = options_.beta1,
                           .beta2 = options_.beta2,
                           .eps = options_.eps,
                           .weight_decay = options_.weight_decay,
                           .grad_clip = options_.grad_clip});
}

AdamW::Sums AdamW::sums() const {
  std::array<float, 2> sums = {};
  backend_.download(sums.data(), sums_);
  return {.gradient_norm = std::sqrt(sums[0]),
          .loss = sums[1],
          .updated = is_within(limits_, sums[1], sums[0])};
}

}  // namespace lathe
