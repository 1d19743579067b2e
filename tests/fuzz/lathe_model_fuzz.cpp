// Model files of Lathe: metadata and tensors.
#include <cstdint>
#include <stdexcept>

#include "fuzz_file.h"
#include "model_files/lathe_model.h"
#include "use_file.h"

namespace lathe {
namespace {

void read_all(const std::filesystem::path& path) {
  const auto source = open_lathe_model(path, Weights::in_use);
  const ModelInfo& info = source->info();
  if (info.end_of_text && (*info.end_of_text < 0 || *info.end_of_text >= info.config.vocab)) {
    throw std::logic_error("the end of a text is no token");
  }
  fuzz::read_values(*source);
}

}  // namespace
}  // namespace lathe

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const lathe::fuzz::FuzzFile file("model.safetensors", {data, size});
  file.check(lathe::read_all);
  return 0;
}
