// Prints what instructions give on this GPU, as tests/golden/instructions.json keeps it.
#include <cstdio>
#include <exception>
#include <nlohmann/json.hpp>

#include "kernels.h"

int main() {
  try {
    const nlohmann::ordered_json json = {{"gpu", lathe::test::gpu_name()},
                                         {"results", lathe::test::run_instruction_kernels()}};
    std::puts(json.dump().c_str());
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "instruction_kernels: %s\n", error.what());
    return 1;
  }
}
