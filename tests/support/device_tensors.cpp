#include "support/device_tensors.h"

#include <stdexcept>
#include <utility>

#include "lathe/random.h"

namespace lathe::test {
namespace {

void upload(Backend& backend, const Tensor& to, std::span<const float> values) {
  if (to.count() != static_cast<std::int64_t>(values.size())) {
    throw std::logic_error("the number of values is not that of the shape");
  }
  if (to.type() == DType::fp32) {
    backend.upload(to, values.data());
  } else {
    std::vector<Bf16> rounded;
    for (const float value : values) rounded.push_back(to_bf16(value));
    backend.upload(to, rounded.data());
  }
}

}  // namespace

DeviceTensor zeros(Backend& backend, DType type, std::initializer_list<std::int64_t> shape) {
  Buffer buffer = backend.allocate(Tensor(nullptr, type, shape).bytes());
  const Tensor view(buffer.get(), type, shape);
  return {std::move(buffer), view};
}

DeviceTensor to_device(Backend& backend, DType type, std::initializer_list<std::int64_t> shape,
                       std::span<const float> values) {
  DeviceTensor tensor = zeros(backend, type, shape);
  upload(backend, tensor, values);
  return tensor;
}

DeviceTensor to_device_misaligned(Backend& backend, DType type,
                                  std::initializer_list<std::int64_t> shape,
                                  std::span<const float> values) {
  Buffer buffer = backend.allocate(Tensor(nullptr, type, shape).bytes() + size_of(type));
  const Tensor view(buffer.get() + size_of(type), type, shape);
  upload(backend, view, values);
  return {std::move(buffer), view};
}

DeviceTensor to_device(Backend& backend, std::initializer_list<std::int64_t> shape,
                       std::span<const std::int32_t> values) {
  DeviceTensor tensor = zeros(backend, DType::int32, shape);
  if (tensor.tensor().count() != static_cast<std::int64_t>(values.size())) {
    throw std::logic_error("the number of values is not that of the shape");
  }
  backend.upload(tensor, values.data());
  return tensor;
}

std::vector<float> to_floats(Backend& backend, const Tensor& tensor) {
  std::vector<float> floats(static_cast<std::size_t>(tensor.count()));
  if (tensor.type() == DType::fp32) {
    backend.download(floats.data(), tensor);
    return floats;
  }
  if (tensor.type() != DType::bf16) throw std::logic_error("the tensor holds no floats");
  std::vector<Bf16> stored(floats.size());
  backend.download(stored.data(), tensor);
  for (std::size_t i = 0; i < floats.size(); ++i) floats[i] = to_float(stored[i]);
  return floats;
}

std::vector<std::byte> to_bytes(Backend& backend, const Tensor& tensor) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(tensor.bytes()));
  backend.download(bytes.data(), tensor);
  return bytes;
}

std::vector<float> rounded_to(DType type, std::vector<float> values) {
  if (type == DType::bf16) {
    for (float& value : values) value = to_float(to_bf16(value));
  }
  return values;
}

std::vector<float> normal_floats(std::int64_t count, std::uint64_t seed, float scale) {
  const RandomKey key{.seed = seed, .stream = RandomStream::parameter_init, .substream = 0};
  std::vector<float> values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = scale * static_cast<float>(normal(key, i));
  }
  return values;
}

}  // namespace lathe::test
