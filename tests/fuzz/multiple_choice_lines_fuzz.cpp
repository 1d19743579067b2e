// Multiple choice in JSON lines: whatever the bytes are, they are read or refused.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "lathe/error.h"
#include "lathe/multiple_choice.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    lathe::parse_multiple_choice_lines(text, *lathe::byte_tokenizer(), "input");
  } catch (const lathe::Error&) {
  }
  return 0;
}
