// Model files of Lathe: metadata and tensors.
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <vector>

#include "fuzz_file.h"
#include "lathe_model.h"

namespace lathe {
namespace {

void read_all(const std::filesystem::path& path) {
  const auto source = open_lathe_model(path, Weights::in_use);
  const ModelInfo& info = source->info();
  if (info.end_of_text && (*info.end_of_text < 0 || *info.end_of_text >= info.config.vocab)) {
    throw std::logic_error("the end of a text is no token");
  }
  for (const ParameterSpec& spec : parameter_specs(info.config)) {
    for_each_rows(spec, [&](const ParameterRows& rows) {
      std::vector<std::byte> values(static_cast<std::size_t>(rows.elements() * 4));
      source->read(rows, DType::fp32, values);
    });
  }
}

}  // namespace
}  // namespace lathe

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const lathe::fuzz::FuzzFile file("model.safetensors", {data, size});
  file.check(lathe::read_all);
  return 0;
}
