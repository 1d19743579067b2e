// state.json of checkpoints: as it is, and with the checksum that its lines should have, since
// behind that stands all the rest of the reader.
#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "fuzz_file.h"
#include "lathe/files.h"
#include "run/checkpoint_state.h"

namespace lathe {
namespace {

constexpr std::string_view kTail = ",\n  \"checksum\": \"0123456789abcdef\"\n}\n";

std::string with_right_checksum(std::string_view text) {
  const std::string lines(text.substr(0, text.size() - std::min(kTail.size(), text.size())));
  Checksum checksum;
  checksum.update(std::as_bytes(std::span(lines)));
  return lines + fmt::format(",\n  \"checksum\": \"{:016x}\"\n}}\n", checksum.value());
}

void check_text(std::string_view text) {
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(text.data());
  const fuzz::FuzzFile file("state.json", {bytes, text.size()});
  file.check([](const auto& path) { state_to_text(read_state(path)); });
}

}  // namespace
}  // namespace lathe

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  lathe::check_text(text);
  lathe::check_text(lathe::with_right_checksum(text));
  return 0;
}
