// A Tensor is a view: it never owns memory. Rows are contiguous and dense, the last dimension
// varies fastest. An empty tensor (data == nullptr) means "this operand is absent".
#pragma once

#include <array>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "lathe/bf16.h"

namespace lathe {

enum class DType : std::uint8_t { fp32, bf16, int32 };

constexpr std::int64_t size_of(DType type) {
  return type == DType::bf16 ? 2 : 4;
}
std::string to_string(DType type);

template <class T>
inline constexpr DType kDTypeOf = DType::fp32;
template <>
inline constexpr DType kDTypeOf<Bf16> = DType::bf16;
template <>
inline constexpr DType kDTypeOf<std::int32_t> = DType::int32;

class Tensor {
 public:
  static constexpr int kMaxRank = 4;

  Tensor() = default;
  Tensor(void* data, DType type, std::initializer_list<std::int64_t> shape)
      : data_(static_cast<std::byte*>(data)), type_(type), rank_(static_cast<int>(shape.size())) {
    assert(shape.size() <= kMaxRank);
    int i = 0;
    for (const std::int64_t n : shape) shape_[static_cast<std::size_t>(i++)] = n;
  }

  bool empty() const { return data_ == nullptr; }
  DType type() const { return type_; }
  int rank() const { return rank_; }
  // Size of dimension `i`; negative counts from the last: size(-1) is the row length.
  std::int64_t size(int i) const { return shape_[static_cast<std::size_t>(i < 0 ? rank_ + i : i)]; }
  std::int64_t count() const {  // elements
    std::int64_t n = 1;
    for (int i = 0; i < rank_; ++i) n *= size(i);
    return n;
  }
  std::int64_t bytes() const { return count() * size_of(type_); }
  std::int64_t rows() const { return rank_ == 0 ? 1 : count() / size(-1); }  // all but the last

  void* data() const { return data_; }
  template <class T>
  T* as() const {
    assert(type_ == kDTypeOf<T>);
    return reinterpret_cast<T*>(data_);
  }

  // The same elements under another shape of the same count.
  Tensor view(std::initializer_list<std::int64_t> shape) const {
    Tensor t(data_, type_, shape);
    assert(t.count() == count());
    return t;
  }
  // The first elements of this memory under a smaller shape.
  Tensor prefix(std::initializer_list<std::int64_t> shape) const {
    Tensor t(data_, type_, shape);
    assert(t.count() <= count());
    return t;
  }
  // Entries [begin, begin + n) of the first dimension.
  Tensor slice(std::int64_t begin, std::int64_t n) const {
    assert(rank_ > 0 && begin >= 0 && begin + n <= size(0));
    Tensor t = *this;
    t.data_ = data_ + begin * (count() / size(0)) * size_of(type_);
    t.shape_[0] = n;
    return t;
  }

  std::string shape_string() const;  // "(4, 64, 768)"

 private:
  std::byte* data_ = nullptr;
  DType type_ = DType::fp32;
  int rank_ = 0;
  std::array<std::int64_t, kMaxRank> shape_{};
};

}  // namespace lathe
