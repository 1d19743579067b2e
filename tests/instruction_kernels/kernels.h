// Instructions whose results are the hardware's word, not IEEE's: approximations, the order of
// sums in matrix products, and the layouts by which lanes exchange data.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace lathe::test {

// The bits of everything that an instruction gave for fixed inputs, by the instruction's name.
using InstructionResults = std::map<std::string, std::vector<std::uint32_t>>;

// Runs on the current GPU. Throws std::runtime_error when that fails.
InstructionResults run_instruction_kernels();

std::string gpu_name();

}  // namespace lathe::test
