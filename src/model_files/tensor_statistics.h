// What the values of a tensor are like, whatever file they are in.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "commands/describe.h"
#include "lathe/stored_type.h"

namespace lathe {

using ReadBytes = std::function<void(std::uint64_t offset, std::span<std::byte> to)>;

// Adds mean, std, min and max of the finite values, and how many are not finite, of `bytes` bytes
// that `read` gives.
void append_statistics(Facts& facts, StoredType type, std::uint64_t bytes, const ReadBytes& read);

}  // namespace lathe
