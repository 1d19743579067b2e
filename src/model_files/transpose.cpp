#include "transpose.h"

#include <algorithm>
#include <cstring>

namespace lathe {
namespace {

// Square blocks, so that the lines of both matrices stay in the cache until they are used up.
constexpr std::int64_t kBlock = 32;

template <std::size_t kBytes>
void transpose_elements(const std::byte* from, std::int64_t rows, std::int64_t columns,
                        std::byte* to) {
  for (std::int64_t row = 0; row < rows; row += kBlock) {
    for (std::int64_t column = 0; column < columns; column += kBlock) {
      for (std::int64_t c = column; c < std::min(column + kBlock, columns); ++c) {
        for (std::int64_t r = row; r < std::min(row + kBlock, rows); ++r) {
          std::memcpy(to + static_cast<std::size_t>(c * rows + r) * kBytes,
                      from + static_cast<std::size_t>(r * columns + c) * kBytes, kBytes);
        }
      }
    }
  }
}

}  // namespace

void transpose(std::span<const std::byte> from, std::int64_t rows, std::int64_t columns,
               std::int64_t element_bytes, std::span<std::byte> to) {
  if (element_bytes == 2) {
    transpose_elements<2>(from.data(), rows, columns, to.data());
  } else {
    transpose_elements<4>(from.data(), rows, columns, to.data());
  }
}

}  // namespace lathe
