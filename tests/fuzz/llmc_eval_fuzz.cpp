// Evaluation files of llm.c: whatever the bytes are, they are read or refused.
#include <cstddef>
#include <cstdint>
#include <span>

#include "lathe/error.h"
#include "lathe/multiple_choice.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    lathe::parse_llmc_evaluation(std::as_bytes(std::span(data, size)), "input");
  } catch (const lathe::Error&) {
  }
  return 0;
}
