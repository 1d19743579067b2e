#include "finite_check.h"

#include <fmt/format.h>

#include <cmath>
#include <optional>

#include "base/number_text.h"
#include "lathe/bf16.h"
#include "lathe/error.h"

namespace lathe {
namespace {

struct BadValue {
  std::int64_t element;
  float value;
};

template <class E>
std::optional<BadValue> find_bad(Backend& backend, const Tensor& tensor) {
  std::vector<E> values(static_cast<std::size_t>(tensor.count()));
  backend.download(values.data(), tensor);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const float value = to_float(values[i]);
    if (!std::isfinite(value)) return BadValue{static_cast<std::int64_t>(i), value};
  }
  return std::nullopt;
}

// The layer of a parameter: "blocks.3.mlp.fc" of "blocks.3.mlp.fc.weight".
std::string layer_of(const std::string& parameter) {
  return parameter.substr(0, parameter.rfind('.'));
}

}  // namespace

FiniteCheck::FiniteCheck(Backend& backend, const Gpt2& model, const AdamW& adamw)
    : backend_(backend), model_(model) {
  flat_ = {{"parameters", model.parameters()},
           {"gradients", model.gradients()},
           {"m", adamw.slices_of(adamw.m())},
           {"v", adamw.slices_of(adamw.v())},
           {"master", adamw.master_slices()}};
}

void FiniteCheck::check_parameters() const {
  for (const auto& [name, slices] : flat_) check({name, slices.memory()}, "start");
}

void FiniteCheck::observe(const OperationOutputs& operation) {
  const Outputs& outputs = operation.outputs;
  std::string layer = operation.layer < 0 ? "" : fmt::format("blocks.{}", operation.layer);
  const std::string parameter = parameter_at(outputs.parameter.data());
  if (!parameter.empty()) layer = layer_of(parameter);
  const std::string who = layer.empty() ? operation.name : layer + " " + operation.name;
  for (const OutputTensor& operand : outputs.written) check(operand, who);
}

void FiniteCheck::check(const OutputTensor& operand, const std::string& who) const {
  const Tensor& tensor = operand.tensor;
  const auto bad = tensor.type() == DType::bf16 ? find_bad<Bf16>(backend_, tensor)
                                                : find_bad<float>(backend_, tensor);
  if (!bad) return;
  const std::string parameter =
      parameter_at(static_cast<std::byte*>(tensor.data()) + bad->element * size_of(tensor.type()));
  throw Error(ExitCode::diverged,
              fmt::format("step {}: {}.{} {} has {} at element {}{}", step_, who, operand.name,
                          tensor.shape_string(), non_finite_text(double{bad->value}), bad->element,
                          parameter.empty() ? "" : ", of " + parameter));
}

// The parameter whose value, gradient, moment or master weight is there; "": of none.
std::string FiniteCheck::parameter_at(const void* address) const {
  const auto at = reinterpret_cast<std::uintptr_t>(address);
  for (const auto& [name, slices] : flat_) {
    const auto begin = reinterpret_cast<std::uintptr_t>(slices.memory().data());
    if (at < begin || at >= begin + static_cast<std::uintptr_t>(slices.memory().bytes())) continue;
    const std::int64_t element =
        slices.element_at(static_cast<std::int64_t>(at - begin) / size_of(slices.type()));
    for (const ParameterSpec& spec : model_.specs()) {
      if (element >= spec.offset && element < spec.offset + spec.padded_count()) return spec.name;
    }
  }
  return "";
}

}  // namespace lathe
