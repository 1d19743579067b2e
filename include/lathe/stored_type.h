// Types of tensors in files: those that Lathe computes with, and those of other programs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "lathe/tensor.h"

namespace lathe {

enum class StoredType : std::uint8_t {
  fp64,
  fp32,
  fp16,
  bf16,
  int64,
  int32,
  int16,
  int8,
  uint8,
  boolean
};

std::int64_t size_of(StoredType type);
std::string_view safetensors_name(StoredType type);  // "F32"
std::optional<StoredType> stored_type_named(std::string_view safetensors_name);
std::vector<std::string_view> stored_type_names();

StoredType stored_type(DType type);

// Whether convert_elements() can make `to` of it.
bool converts(StoredType from, DType to);

// Equal types keep every bit; fp32, fp16 and bf16 become fp32 or bf16, rounded to nearest even.
// `to` has room for as many elements as `from` holds.
void convert_elements(StoredType from_type, std::span<const std::byte> from, DType to_type,
                      std::span<std::byte> to);

// The value of one element, for people: `bytes` begins with it.
double element_value(StoredType type, const std::byte* bytes);

}  // namespace lathe
