// safetensors files, header and data.
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <vector>

#include "commands/describe.h"
#include "fuzz_file.h"
#include "lathe/safetensors.h"

namespace lathe {
namespace {

void read_all_tensors(const std::filesystem::path& path) {
  const SafetensorsReader reader(path, ExitCode::checkpoint);
  for (const TensorInfo& tensor : reader.tensors()) {
    std::vector<std::byte> bytes(tensor.end - tensor.begin);
    reader.read(tensor, 0, bytes);
    const TensorInfo* found = reader.find(tensor.name);
    if (found != &tensor || tensor.count() * size_of(tensor.type) != std::ssize(bytes)) {
      throw std::logic_error("a tensor that is not found by its name, or of another size");
    }
  }
}

}  // namespace
}  // namespace lathe

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const lathe::fuzz::FuzzFile file("model.safetensors", {data, size});
  file.check(lathe::read_all_tensors);
  file.check([](const auto& path) { lathe::describe_safetensors(path); });
  return 0;
}
