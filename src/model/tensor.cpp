#include "lathe/tensor.h"

#include <fmt/format.h>

namespace lathe {

std::string to_string(DType type) {
  switch (type) {
    case DType::fp32:
      return "fp32";
    case DType::bf16:
      return "bf16";
    case DType::int32:
      return "int32";
  }
  return "unknown";
}

std::string Tensor::shape_string() const {
  std::string text;
  for (int i = 0; i < rank_; ++i) text += fmt::format("{}{}", i > 0 ? ", " : "", size(i));
  return "(" + text + ")";
}

}  // namespace lathe
