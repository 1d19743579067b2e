// The PTX machine against a GPU: what instructions gave there, recorded by scripts/gpu_check.sh.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "kernels.h"

namespace lathe::test {
namespace {

struct Tolerance {
  double relative = 0, absolute = 0;
};

// The machine is exact, so that these are the GPU's errors: the largest that the PTX ISA allows,
// for a product what a sum of 16 terms below 1 loses when each is cut to 24 bits. All others: the
// bits.
const std::map<std::string, Tolerance> kTolerances = {
    {"ex2.approx.ftz.f32", {.relative = 0x1p-22}},
    {"lg2.approx.f32", {.relative = 0x1p-22, .absolute = 0x1p-22}},
    {"rcp.approx.f32", {.relative = 0x1p-22}},
    {"sqrt.approx.f32", {.relative = 0x1p-22}},
    {"rsqrt.approx.f32", {.relative = 0x1p-22}},
    {"tanh.approx.f32", {.relative = 0x1p-10}},
    {"div.approx.f32", {.relative = 0x1p-21}},
    {"mma.m16n8k16.bf16", {.absolute = 16 * 0x1p-20}},
};

bool is_close(std::uint32_t actual_bits, std::uint32_t golden_bits, const Tolerance& tolerance) {
  if (actual_bits == golden_bits) return true;
  const auto actual = std::bit_cast<float>(actual_bits), golden = std::bit_cast<float>(golden_bits);
  if (std::isnan(actual) && std::isnan(golden)) return true;
  return std::abs(double{actual} - golden) <=
         tolerance.relative * std::abs(double{golden}) + tolerance.absolute;
}

TEST(InstructionKernels, GiveWhatTheyGaveOnAGpu) {
  const InstructionResults results = run_instruction_kernels();
  std::ifstream file(LATHE_GOLDEN_DIR "/instructions.json");
  if (!file) GTEST_SKIP() << "no GPU has recorded tests/golden/instructions.json yet";
  const auto golden = nlohmann::json::parse(file).at("results").get<InstructionResults>();
  EXPECT_EQ(golden.size(), results.size());
  for (const auto& [name, expected] : golden) {
    const std::vector<std::uint32_t>& actual = results.at(name);
    const auto found = kTolerances.find(name);
    const bool only_bits = found == kTolerances.end();
    ASSERT_EQ(actual.size(), expected.size()) << name;
    for (std::size_t i = 0; i < actual.size(); ++i) {
      EXPECT_TRUE(only_bits ? actual[i] == expected[i]
                            : is_close(actual[i], expected[i], found->second))
          << name << ", result " << i << std::hex << ": 0x" << actual[i] << ", on the GPU 0x"
          << expected[i];
    }
  }
}

}  // namespace
}  // namespace lathe::test
