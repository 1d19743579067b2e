// Counter-based random numbers: Philox 4x32-10 (Salmon et al. 2011). A value is a pure function of
// (seed, stream, index), so it depends on nothing that ran before it.
#pragma once

#include <array>
#include <cstdint>

namespace lathe {

// Streams keep the uses of one seed apart. Their numbers are part of the reproducibility promise.
enum class RandomStream : std::uint32_t {
  parameter_init = 1,
  data_order = 2,
  sampling = 3,
  corpus = 4,
};

struct RandomKey {
  std::uint64_t seed;
  RandomStream stream;
  std::uint32_t substream;  // such as a parameter's index or an epoch
};

std::array<std::uint32_t, 4> philox(const RandomKey& key, std::uint64_t index);

double uniform(const RandomKey& key, std::uint64_t index);  // [0, 1), 53 bits
double normal(const RandomKey& key, std::uint64_t index);   // mean 0, variance 1 (Box-Muller)

// The image of `index` under a permutation of [0, count) chosen by `key`: a Feistel network over
// the next power of four, walked until it falls inside (Black & Rogaway 2002).
std::uint64_t permute(const RandomKey& key, std::uint64_t index, std::uint64_t count);

}  // namespace lathe
