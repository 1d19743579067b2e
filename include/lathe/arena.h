// Places tensors one after another in one buffer. Run a layout function once with a measuring arena
// to learn the bytes, once with memory to place the tensors: size and pointers cannot disagree.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>

#include "lathe/tensor.h"

namespace lathe {

class Arena {
 public:
  Arena() = default;  // measures: the tensors it gives must not be touched
  explicit Arena(std::byte* base) : base_(base) {}

  Tensor take(DType type, std::initializer_list<std::int64_t> shape) {
    const Tensor tensor(base_ == nullptr ? nullptr : base_ + bytes_, type, shape);
    bytes_ += (tensor.bytes() + kAlignment - 1) / kAlignment * kAlignment;
    return tensor;
  }

  std::int64_t bytes() const { return bytes_; }

 private:
  static constexpr std::int64_t kAlignment = 256;

  std::byte* base_ = nullptr;
  std::int64_t bytes_ = 0;
};

}  // namespace lathe
