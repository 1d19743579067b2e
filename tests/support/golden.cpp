#include "support/golden.h"

#include <algorithm>
#include <span>
#include <stdexcept>

namespace lathe::test {
namespace {

template <class T>
std::vector<T> read_values(const SafetensorsReader& reader, const std::string& name) {
  const TensorInfo* info = reader.find(name);
  if (info == nullptr || info->type != stored_type(kDTypeOf<T>))
    throw std::runtime_error("no tensor " + name);
  std::vector<T> values(static_cast<std::size_t>(info->count()));
  reader.read(*info, 0, std::as_writable_bytes(std::span(values)));
  return values;
}

std::vector<float> widened(const std::vector<Bf16>& values) {
  std::vector<float> floats(values.size());
  std::transform(values.begin(), values.end(), floats.begin(), [](Bf16 x) { return to_float(x); });
  return floats;
}

}  // namespace

Batch GoldenCase::batch(std::int64_t step, std::int64_t first, std::int64_t count) const {
  const auto begin = static_cast<std::size_t>((step * rows + first) * seq_len);
  const auto size = static_cast<std::size_t>(count * seq_len);
  return {.sequences = count,
          .seq_len = seq_len,
          .tokens = std::span(tokens).subspan(begin, size),
          .targets = std::span(targets).subspan(begin, size)};
}

GoldenCase read_golden(const std::string& path) {
  const SafetensorsReader reader(path, ExitCode::data);
  const auto integer = [&](const char* key) { return std::stoll(reader.metadata().at(key)); };
  const auto real = [&](const char* key) { return std::stod(reader.metadata().at(key)); };
  GoldenCase golden{.config = {.layers = integer("layers"),
                               .heads = integer("heads"),
                               .channels = integer("channels"),
                               .context = integer("context"),
                               .vocab = integer("vocab")},
                    .rows = integer("rows"),
                    .seq_len = integer("seq_len"),
                    .adamw = {.beta1 = real("beta1"),
                              .beta2 = real("beta2"),
                              .eps = real("eps"),
                              .weight_decay = real("weight_decay"),
                              .grad_clip = real("grad_clip")},
                    .learning_rates = read_values<float>(reader, "learning_rates"),
                    .losses = read_values<float>(reader, "losses"),
                    .norms = read_values<float>(reader, "norms"),
                    .tokens = read_values<std::int32_t>(reader, "tokens"),
                    .targets = read_values<std::int32_t>(reader, "targets"),
                    .logits = read_values<float>(reader, "logits"),
                    .initial = {},
                    .gradient = {},
                    .final = {}};
  for (const ParameterSpec& spec : parameter_specs(golden.config)) {
    golden.initial[spec.name] = widened(read_values<Bf16>(reader, "initial." + spec.name));
    golden.gradient[spec.name] = read_values<float>(reader, "gradient." + spec.name);
    golden.final[spec.name] = read_values<float>(reader, "final." + spec.name);
  }
  return golden;
}

}  // namespace lathe::test
