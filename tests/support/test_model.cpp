#include "support/test_model.h"

#include <stdexcept>

#include "lathe/random.h"
#include "support/device_tensors.h"
#include "support/test_device.h"

namespace lathe::test {

TestModel::TestModel(const Spec& spec) : TestModel(spec, make_test_backend(spec.threads)) {}

TestModel::TestModel(const Spec& spec, std::unique_ptr<Backend> backend)
    : backend_(std::move(backend)),
      model_(*backend_, spec.config, spec.options),
      adamw_(*backend_, model_.specs(), model_.parameters(), model_.gradients(), spec.adamw) {}

void TestModel::initialize(std::uint64_t seed, float scale) {
  initialize_parameters(*backend_, specs(), adamw_.master(), seed);
  for (const ParameterSpec& spec : specs()) {
    if (spec.init != ParameterSpec::Init::normal) continue;
    std::vector<float> scaled = values(spec, adamw_.master());
    for (float& value : scaled) value *= scale;
    set(spec, scaled);
  }
  publish();
}

void TestModel::set(const ParameterSpec& spec, std::span<const float> values) {
  if (spec.count() != static_cast<std::int64_t>(values.size())) {
    throw std::logic_error("the number of values is not that of " + spec.name);
  }
  backend_->upload(adamw_.master().slice(spec.offset, spec.count()), values.data());
}

double TestModel::forward_backward(const Batch& step, std::span<const std::int64_t> cuts) {
  const auto tokens = static_cast<double>(step.tokens.size());
  std::size_t begin = 0;
  for (const std::int64_t count : cuts) {
    const auto size = static_cast<std::size_t>(count * step.seq_len);
    model_.forward_backward({.sequences = count,
                             .seq_len = step.seq_len,
                             .tokens = step.tokens.subspan(begin, size),
                             .targets = step.targets.subspan(begin, size)},
                            static_cast<float>(1 / tokens), /*accumulate=*/begin > 0);
    begin += size;
  }
  if (begin != step.tokens.size()) throw std::logic_error("the cuts are not the whole step");
  return double{loss_sum()} / tokens;
}

float TestModel::loss_sum() {
  return to_floats(*backend_, model_.loss_sum()).front();
}

AdamW::Sums TestModel::update(std::int64_t step, double learning_rate, const UpdateLimits& limits) {
  adamw_.update(step, learning_rate, model_.loss_sum(), limits);
  return adamw_.sums();
}

double TestModel::forward_backward(const Batch& step) {
  return forward_backward(step, std::vector{step.sequences});
}

std::vector<float> TestModel::values(const ParameterSpec& spec, const Tensor& flat) {
  return to_floats(*backend_, flat.slice(spec.offset, spec.count()));
}

std::vector<std::byte> TestModel::state_bytes() {
  std::vector<std::byte> bytes;
  for (const Tensor& tensor :
       {model_.parameters(), model_.gradients(), adamw_.m(), adamw_.v(), adamw_.master()}) {
    const std::vector<std::byte> more = to_bytes(*backend_, tensor);
    bytes.insert(bytes.end(), more.begin(), more.end());
  }
  return bytes;
}

RandomTokens::RandomTokens(std::int64_t sequence_count, std::int64_t length, std::int64_t vocab,
                           std::uint64_t seed)
    : sequences(sequence_count), seq_len(length) {
  const RandomKey key{.seed = seed, .stream = RandomStream::sampling, .substream = 0};
  for (std::int64_t b = 0; b < sequences; ++b) {
    for (std::int64_t t = 0; t <= seq_len; ++t) {
      const double u = uniform(key, static_cast<std::uint64_t>(b * (seq_len + 1) + t));
      const auto token = static_cast<std::int32_t>(u * static_cast<double>(vocab));
      if (t < seq_len) tokens.push_back(token);
      if (t > 0) targets.push_back(token);
    }
  }
}

}  // namespace lathe::test
