// The header of an llm.c evaluation file, and the fields of its examples (docs/formats.md).
#pragma once

#include <cstdint>

namespace lathe {

struct EvaluationHeader {
  static constexpr std::int32_t kMagic = 20240522;
  static constexpr std::int32_t kVersion = 1;
  static constexpr std::int64_t kBytes = 1024;  // the rest of them is not looked at
  static constexpr std::int32_t kMostExamples = 65535;
  static constexpr std::int32_t kMostExampleBytes = 65535;  // its size is a word
  static constexpr std::uint16_t kExampleStart = 65535;     // so no token has this id

  std::int32_t magic = kMagic, version = kVersion, examples = 0;
  std::int32_t longest_example = 0;  // bytes
};

}  // namespace lathe
