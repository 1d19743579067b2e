// llm.c's tokenizer .bin: opened, and every token decoded.
#include <cstddef>
#include <cstdint>

#include "commands/describe.h"
#include "fuzz_file.h"
#include "tokenizer/llmc_tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const lathe::fuzz::FuzzFile file("tokenizer.bin", {data, size});
  file.check([](const auto& path) { lathe::describe_llmc_tokenizer(path); });
  return 0;
}
