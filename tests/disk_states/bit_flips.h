// Damage to the files of a checkpoint, and whether it is found.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

namespace lathe::test {

struct DamageReport {
  std::int64_t cases = 0, found = 0;
  std::map<std::string, std::int64_t> by_kind;   // of damage: how many cases
  std::map<std::string, std::int64_t> problems;  // what was not found, or found in another way
};

struct DamageSpec {
  std::filesystem::path checkpoint;  // whole; is whole again at the end
  std::int64_t payload_flips;        // of random bits behind the headers
  std::int64_t stride;               // of bits and lengths that are tried; 1: all of them
  std::uint64_t seed;
};

// Flips bits of state.json and of other text, of the headers of tensors' files and of what is
// behind these, and cuts each file to each length. Found is what open_checkpoint() refuses with the
// exit code of checkpoints in one line that names the file.
DamageReport check_damage(const DamageSpec& spec);

}  // namespace lathe::test
