// Files of options: what is taken is written again, and that must be the same options.
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "commands/describe.h"
#include "fuzz_file.h"
#include "lathe/error.h"
#include "lathe/options.h"
#include "options/option_sources.h"

namespace lathe {
namespace {

Options parse(const std::filesystem::path& path) {
  Options options = default_options();
  for (const Setting& setting : read_toml(Command::train, path)) apply(options, setting);
  return options;
}

// Whether options fit each other; when not, no file is named, since they may come from several.
bool fit(Options options) {
  try {
    resolve(options);
    return true;
  } catch (const Error&) {
    return false;
  }
}

void read_twice(const std::filesystem::path& path) {
  const Options options = parse(path);
  const std::string once = to_toml(options);
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(once.data());
  const fuzz::FuzzFile written("written.toml", {bytes, once.size()});
  if (to_toml(parse(written.path())) != once) {
    throw std::logic_error("options that change when they are written and read again: " + once);
  }
  fit(options);
}

}  // namespace
}  // namespace lathe

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const lathe::fuzz::FuzzFile file("config.toml", {data, size});
  file.check(lathe::read_twice);
  file.check([](const auto& path) { lathe::describe_config(path); });
  return 0;
}
