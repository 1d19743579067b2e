#include "lathe/stored_type.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "lathe/bf16.h"
#include "lathe/error.h"
#include "lathe/fp16.h"

namespace lathe {
namespace {

struct StoredTypeName {
  StoredType type;
  std::int64_t size;
  std::string_view name;
};

constexpr std::array kTypeNames = {
    StoredTypeName{StoredType::fp64, 8, "F64"},  StoredTypeName{StoredType::fp32, 4, "F32"},
    StoredTypeName{StoredType::fp16, 2, "F16"},  StoredTypeName{StoredType::bf16, 2, "BF16"},
    StoredTypeName{StoredType::int64, 8, "I64"}, StoredTypeName{StoredType::int32, 4, "I32"},
    StoredTypeName{StoredType::int16, 2, "I16"}, StoredTypeName{StoredType::int8, 1, "I8"},
    StoredTypeName{StoredType::uint8, 1, "U8"},  StoredTypeName{StoredType::boolean, 1, "BOOL"},
};

const StoredTypeName& entry(StoredType type) {
  for (const StoredTypeName& name : kTypeNames) {
    if (name.type == type) return name;
  }
  throw Error(ExitCode::internal, "[stored_type] a type without a name");
}

bool is_float(StoredType type) {
  return type == StoredType::fp32 || type == StoredType::fp16 || type == StoredType::bf16;
}

template <class T>
T load(const std::byte* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof(T));
  return value;
}

template <class From, class To>
void convert(std::span<const std::byte> from, std::span<std::byte> to) {
  for (std::size_t i = 0; i < from.size() / sizeof(From); ++i) {
    const To y = from_float<To>(to_float(load<From>(from.data() + i * sizeof(From))));
    std::memcpy(to.data() + i * sizeof(To), &y, sizeof(To));
  }
}

template <class To>
void convert_to(StoredType from_type, std::span<const std::byte> from, std::span<std::byte> to) {
  if (from_type == StoredType::fp32) convert<float, To>(from, to);
  if (from_type == StoredType::bf16) convert<Bf16, To>(from, to);
  if (from_type == StoredType::fp16) convert<Fp16, To>(from, to);
}

}  // namespace

std::int64_t size_of(StoredType type) {
  return entry(type).size;
}

std::string_view safetensors_name(StoredType type) {
  return entry(type).name;
}

std::optional<StoredType> stored_type_named(std::string_view safetensors_name) {
  for (const StoredTypeName& name : kTypeNames) {
    if (name.name == safetensors_name) return name.type;
  }
  return std::nullopt;
}

std::vector<std::string_view> stored_type_names() {
  std::vector<std::string_view> names;
  for (const StoredTypeName& name : kTypeNames) names.push_back(name.name);
  return names;
}

StoredType stored_type(DType type) {
  switch (type) {
    case DType::fp32:
      return StoredType::fp32;
    case DType::bf16:
      return StoredType::bf16;
    case DType::int32:
      return StoredType::int32;
  }
  throw Error(ExitCode::internal, "[stored_type] a type that no file holds");
}

bool converts(StoredType from, DType to) {
  return from == stored_type(to) || (is_float(from) && to != DType::int32);
}

void convert_elements(StoredType from_type, std::span<const std::byte> from, DType to_type,
                      std::span<std::byte> to) {
  if (from_type == stored_type(to_type)) {
    std::ranges::copy(from, to.begin());
  } else if (to_type == DType::fp32) {
    convert_to<float>(from_type, from, to);
  } else {
    convert_to<Bf16>(from_type, from, to);
  }
}

double element_value(StoredType type, const std::byte* bytes) {
  switch (type) {
    case StoredType::fp64:
      return load<double>(bytes);
    case StoredType::fp32:
      return load<float>(bytes);
    case StoredType::fp16:
      return to_float(load<Fp16>(bytes));
    case StoredType::bf16:
      return to_float(load<Bf16>(bytes));
    case StoredType::int64:
      return static_cast<double>(load<std::int64_t>(bytes));
    case StoredType::int32:
      return load<std::int32_t>(bytes);
    case StoredType::int16:
      return load<std::int16_t>(bytes);
    case StoredType::int8:
      return load<std::int8_t>(bytes);
    case StoredType::uint8:
    case StoredType::boolean:
      return load<std::uint8_t>(bytes);
  }
  return 0;
}

}  // namespace lathe
