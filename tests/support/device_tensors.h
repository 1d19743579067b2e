// Tensors on a backend for tests: made from floats, stored as fp32 or bf16, read back as floats.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <vector>

#include "lathe/backend.h"

namespace lathe::test {

// A tensor with its memory. Converts to Tensor, so that it can stand in an operation's field.
class DeviceTensor {
 public:
  DeviceTensor() = default;  // an absent operand
  DeviceTensor(Buffer buffer, Tensor view) : buffer_(std::move(buffer)), view_(view) {}

  operator Tensor() const { return view_; }
  const Tensor& tensor() const { return view_; }

 private:
  Buffer buffer_;
  Tensor view_;
};

DeviceTensor zeros(Backend& backend, DType type, std::initializer_list<std::int64_t> shape);

// `values` are rounded to `type`, fp32 or bf16; their count is that of the shape.
DeviceTensor to_device(Backend& backend, DType type, std::initializer_list<std::int64_t> shape,
                       std::span<const float> values);
DeviceTensor to_device(Backend& backend, std::initializer_list<std::int64_t> shape,
                       std::span<const std::int32_t> values);
// It begins one element after its memory: at no multiple of 16 bytes.
DeviceTensor to_device_misaligned(Backend& backend, DType type,
                                  std::initializer_list<std::int64_t> shape,
                                  std::span<const float> values);

std::vector<float> to_floats(Backend& backend, const Tensor& tensor);  // of fp32 or bf16
std::vector<std::byte> to_bytes(Backend& backend, const Tensor& tensor);

// Values as `type` stores them: what a reference computation must start from.
std::vector<float> rounded_to(DType type, std::vector<float> values);

// Normal values, a pure function of seed, times `scale`.
std::vector<float> normal_floats(std::int64_t count, std::uint64_t seed, float scale = 1.0f);

}  // namespace lathe::test
