// Every fuzz target with its corpus, and with damaged copies of it: no input brings a reader down.
// What libFuzzer finds beyond that goes into the corpus (README.md), so that it stays found.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <exception>
#include <filesystem>
#include <fstream>
#include <map>
#include <ostream>
#include <string>

#include "fuzz_targets.h"
#include "mutations.h"
#include "support/temp_dir.h"

namespace lathe::fuzz {

// What gtest calls a target in messages.
static void PrintTo(const NamedTarget& target, std::ostream* to) {
  *to << target.name;
}

namespace {

namespace fs = std::filesystem;

// The files of a target's corpus by name, in the same order everywhere.
std::map<std::string, std::string> read_corpus(std::string_view target) {
  const std::string_view name = target.substr(0, target.rfind("_fuzz"));
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::directory_iterator(fs::path(LATHE_FUZZ_CORPUS) / name)) {
    files[entry.path().filename().string()] = test::read_file(entry.path());
  }
  return files;
}

// Fails the test when the target lets something out, and keeps the bytes that did it.
void run(const NamedTarget& target, const std::string& bytes, const std::string& what) {
  try {
    target.run(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
  } catch (const std::exception& error) {
    const fs::path kept = fs::absolute(fmt::format("{}-failed-input", target.name));
    std::ofstream(kept, std::ios::binary) << bytes;
    FAIL() << what << ": " << error.what() << "\nThe input is kept: " << kept.string();
  }
}

class FuzzReplay : public testing::TestWithParam<NamedTarget> {};

TEST_P(FuzzReplay, LetsNothingOut) {
  constexpr std::uint32_t kMutations = 200;
  const auto corpus = read_corpus(GetParam().name);
  ASSERT_FALSE(corpus.empty());
  auto other = corpus.begin();
  for (const auto& [name, bytes] : corpus) {
    if (++other == corpus.end()) other = corpus.begin();
    run(GetParam(), bytes, name);
    for (std::size_t length = 0; length < bytes.size() && !HasFatalFailure(); ++length) {
      run(GetParam(), bytes.substr(0, length), fmt::format("{}, {} bytes of it", name, length));
    }
    for (std::uint32_t seed = 0; seed < kMutations && !HasFatalFailure(); ++seed) {
      run(GetParam(), mutated(bytes, other->second, seed),
          fmt::format("{}, mutation {}", name, seed));
    }
    if (HasFatalFailure()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, FuzzReplay,
                         testing::ValuesIn(fuzz_targets().begin(), fuzz_targets().end()),
                         [](const auto& target) { return std::string(target.param.name); });

}  // namespace
}  // namespace lathe::fuzz
