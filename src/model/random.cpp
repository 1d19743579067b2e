#include "lathe/random.h"

#include <bit>
#include <cmath>
#include <numbers>

namespace lathe {
namespace {

std::uint32_t high(std::uint64_t x) {
  return static_cast<std::uint32_t>(x >> 32);
}
std::uint32_t low(std::uint64_t x) {
  return static_cast<std::uint32_t>(x);
}

double to_unit(std::uint32_t upper, std::uint32_t lower) {
  const std::uint64_t bits = (std::uint64_t{upper} << 32 | lower) >> 11;
  return static_cast<double>(bits) * 0x1p-53;
}

}  // namespace

std::array<std::uint32_t, 4> philox(const RandomKey& key, std::uint64_t index) {
  std::array<std::uint32_t, 4> x = {low(index), high(index), key.substream,
                                    static_cast<std::uint32_t>(key.stream)};
  std::uint32_t k0 = low(key.seed);
  std::uint32_t k1 = high(key.seed);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = std::uint64_t{0xD2511F53} * x[0];
    const std::uint64_t p1 = std::uint64_t{0xCD9E8D57} * x[2];
    x = {high(p1) ^ x[1] ^ k0, low(p1), high(p0) ^ x[3] ^ k1, low(p0)};
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
  return x;
}

double uniform(const RandomKey& key, std::uint64_t index) {
  const auto x = philox(key, index);
  return to_unit(x[0], x[1]);
}

double normal(const RandomKey& key, std::uint64_t index) {
  const auto x = philox(key, index);
  const double radius = std::sqrt(-2.0 * std::log(1.0 - to_unit(x[0], x[1])));
  return radius * std::cos(2.0 * std::numbers::pi * to_unit(x[2], x[3]));
}

std::uint64_t permute(const RandomKey& key, std::uint64_t index, std::uint64_t count) {
  constexpr int kRounds = 6;
  const int half_bits = (std::bit_width(count - 1) + 1) / 2;
  const std::uint64_t mask = (std::uint64_t{1} << half_bits) - 1;
  std::uint64_t x = index;
  do {
    std::uint64_t left = x >> half_bits;
    std::uint64_t right = x & mask;
    for (std::uint64_t round = 0; round < kRounds; ++round) {
      const auto f = philox(key, right << 8 | round);
      const std::uint64_t mixed = left ^ ((std::uint64_t{f[0]} << 32 | f[1]) & mask);
      left = right;
      right = mixed;
    }
    x = left << half_bits | right;
  } while (x >= count);
  return x;
}

}  // namespace lathe
