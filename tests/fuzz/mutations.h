// Damaged copies of a file, the same ones in every run.
#pragma once

#include <cstdint>
#include <string>

namespace lathe::fuzz {

// `bytes` with one to four changes: bits, bytes, numbers and pieces replaced, pieces removed,
// doubled, or taken from `other`.
std::string mutated(const std::string& bytes, const std::string& other, std::uint32_t seed);

}  // namespace lathe::fuzz
