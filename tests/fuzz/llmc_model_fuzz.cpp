// Model files of llm.c, header and tensors.
#include <cstddef>
#include <cstdint>
#include <vector>

#include "describe.h"
#include "fuzz_file.h"
#include "llmc_model.h"

namespace lathe {
namespace {

void read_all(const std::filesystem::path& path) {
  const auto source = open_llmc_model(path);
  for (const ParameterSpec& spec : parameter_specs(source->info().config)) {
    for_each_rows(spec, [&](const ParameterRows& rows) {
      std::vector<std::byte> values(static_cast<std::size_t>(rows.elements() * 4));
      source->read(rows, DType::fp32, values);
    });
  }
}

}  // namespace
}  // namespace lathe

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const lathe::fuzz::FuzzFile file("model.bin", {data, size});
  file.check(lathe::read_all);
  file.check([](const auto& path) { lathe::describe_llmc_model(path); });
  return 0;
}
