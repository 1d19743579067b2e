// GPT-2's tokens, of which the last one stands between documents.
#pragma once

#include <cstdint>

namespace lathe {

inline constexpr std::int32_t kGpt2Vocab = 50257;
inline constexpr std::int32_t kGpt2EndOfText = kGpt2Vocab - 1;

}  // namespace lathe
