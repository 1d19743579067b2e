// Model files of llm.c, header and tensors.
#include <cstdint>

#include "commands/describe.h"
#include "fuzz_file.h"
#include "model_files/llmc_model.h"
#include "use_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const lathe::fuzz::FuzzFile file("model.bin", {data, size});
  file.check([](const auto& path) { lathe::fuzz::read_values(*lathe::open_llmc_model(path)); });
  file.check([](const auto& path) { lathe::describe_llmc_model(path); });
  return 0;
}
