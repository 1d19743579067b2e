// Text to be tokenised: plain, whole and split, and JSON lines.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <vector>

#include "commands/describe.h"
#include "fuzz_file.h"
#include "lathe/tokenize.h"
#include "support/tokenize_in_memory.h"

namespace lathe {
namespace {

std::vector<std::uint16_t> read(const std::filesystem::path& path, bool lines, Part part) {
  constexpr double kValidationFraction = 0.1;
  return test::tokenize_in_memory({.paths = {path.string()},
                                   .lines = lines,
                                   .text_field = "text",
                                   .validation_fraction = kValidationFraction,
                                   .threads = 1},
                                  *byte_tokenizer(), part);
}

// A byte is a token, and of plain text none is lost between the parts.
void read_plain(const std::filesystem::path& path, std::span<const std::uint8_t> bytes) {
  auto tokens = read(path, /*lines=*/false, Part::training);
  const auto rest = read(path, /*lines=*/false, Part::validation);
  tokens.insert(tokens.end(), rest.begin(), rest.end());
  if (!std::ranges::equal(tokens, bytes)) throw std::logic_error("text that is not its tokens");
}

}  // namespace
}  // namespace lathe

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace lathe;
  const fuzz::FuzzFile file("text", {data, size});
  file.check([&](const auto& path) { read_plain(path, {data, size}); });
  file.check([](const auto& path) { read(path, /*lines=*/true, Part::training); });
  file.check([](const auto& path) { describe_text(path); });
  return 0;
}
