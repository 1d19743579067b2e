// tokenizer.json of Hugging Face: opened, and used: texts come back from their tokens.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "describe.h"
#include "fuzz_file.h"
#include "lathe/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const lathe::fuzz::FuzzFile file("tokenizer.json", {data, size});
  const std::string text(reinterpret_cast<const char*>(data), size);
  file.check([&](const auto& path) {
    const auto tokenizer = lathe::open_tokenizer(path.string());
    if (lathe::decode(*tokenizer, lathe::encode(*tokenizer, text)) != text) std::abort();
  });
  file.check([](const auto& path) { lathe::describe_bpe(path); });
  return 0;
}
