// vocab.bpe: opened, and used: texts come back from their tokens.
#include <cstdint>
#include <string>

#include "commands/describe.h"
#include "fuzz_file.h"
#include "use_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const lathe::fuzz::FuzzFile file("vocab.bpe", {data, size});
  const std::string text(reinterpret_cast<const char*>(data), size);
  file.check([&](const auto& path) { lathe::fuzz::encode_and_decode(path, text); });
  file.check([](const auto& path) { lathe::describe_bpe(path); });
  return 0;
}
