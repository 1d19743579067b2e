// Matrices with their rows and columns exchanged, whatever their elements are.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace lathe {

// `from` has `rows` rows of `columns` elements, each of `element_bytes` (2 or 4) bytes; `to`
// becomes `columns` rows of `rows`.
void transpose(std::span<const std::byte> from, std::int64_t rows, std::int64_t columns,
               std::int64_t element_bytes, std::span<std::byte> to);

}  // namespace lathe
