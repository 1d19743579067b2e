// Evaluation files of llm.c.
#include <cstddef>
#include <cstdint>

#include "commands/describe.h"
#include "fuzz_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const lathe::fuzz::FuzzFile file("task.bin", {data, size});
  file.check([](const auto& path) { lathe::describe_multiple_choice(path); });
  return 0;
}
