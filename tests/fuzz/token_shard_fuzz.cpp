// Token shards, with a header and without.
#include <cstddef>
#include <cstdint>
#include <vector>

#include "commands/describe.h"
#include "fuzz_file.h"
#include "lathe/token_files.h"

namespace lathe {
namespace {

void read_all(const std::filesystem::path& path, DataFormat format) {
  constexpr std::int64_t kSeqLen = 7;
  const TokenFiles files = TokenFiles::open({.patterns = {path.string()},
                                             .option = "--train",
                                             .format = format,
                                             .split = Split::whole,
                                             .vocab = 0});
  files.check_tokens();
  std::vector<std::int32_t> tokens(kSeqLen + 1);
  const SequenceTable table(files, kSeqLen);
  for (std::int64_t i = 0; i < table.count(); ++i) table.read(files, i, tokens);
}

}  // namespace
}  // namespace lathe

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace lathe;
  const fuzz::FuzzFile file("shard.bin", {data, size});
  file.check([](const auto& path) { read_all(path, DataFormat::automatic); });
  file.check([](const auto& path) { read_all(path, DataFormat::nanogpt); });
  file.check([](const auto& path) { describe_shard(path); });
  file.check([](const auto& path) { describe_raw_tokens(path); });
  return 0;
}
