// The fuzz targets of this folder by name, for the test that replays their corpora.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace lathe::fuzz {

using FuzzTarget = int(const std::uint8_t* data, std::size_t size);

struct NamedTarget {
  std::string_view name;  // "safetensors_fuzz"
  FuzzTarget* run;
};

std::span<const NamedTarget> fuzz_targets();

}  // namespace lathe::fuzz
