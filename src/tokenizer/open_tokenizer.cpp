// Finds the tokenizer that a name stands for.
#include <fmt/format.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "bpe_files.h"
#include "lathe/error.h"
#include "lathe/files.h"
#include "llmc_tokenizer.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

constexpr const char* kGpt2Variable = "LATHE_GPT2_VOCAB";
constexpr std::string_view kGpt2Address =
    "https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/vocab.bpe";

[[noreturn]] void refuse(ExitCode code, const std::string& name, const std::string& reason) {
  throw Error(code, fmt::format("{}: {}", name, reason));
}

bool is_file(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

NamedText read_named(const fs::path& path) {
  return {.name = path.string(), .text = read_file(path, ExitCode::data)};
}

// "": it is not set.
fs::path variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

fs::path gpt2_path() {
  if (const fs::path named = variable(kGpt2Variable); !named.empty()) return named;
  if (const fs::path cache = variable("XDG_CACHE_HOME"); !cache.empty()) {
    return cache / "lathe" / "vocab.bpe";
  }
  const fs::path home = variable("HOME");
  return home.empty() ? "" : home / ".cache" / "lathe" / "vocab.bpe";
}

std::shared_ptr<const Tokenizer> open_gpt2() {
  const fs::path path = gpt2_path();
  if (!is_file(path)) {
    refuse(ExitCode::usage, "--tokenizer gpt2",
           fmt::format("{}; get {} (sha256 {}), and put it there or name its place in {}",
                       path.empty() ? "neither HOME nor XDG_CACHE_HOME is set"
                                    : fmt::format("there is no file {}", path.string()),
                       kGpt2Address, kGpt2Sha256, kGpt2Variable));
  }
  const NamedText file = read_named(path);
  if (const std::string found = sha256(file.text); found != kGpt2Sha256) {
    refuse(ExitCode::data, file.name,
           fmt::format("is not GPT-2's vocab.bpe: its sha256 is {}, must be {}; get it from {}, or "
                       "give --tokenizer the path of another",
                       found, kGpt2Sha256, kGpt2Address));
  }
  return bpe_tokenizer(parse_merges(file), "gpt2");
}

std::string end_of_text_name(const fs::path& folder) {
  for (const char* file : {"tokenizer_config.json", "special_tokens_map.json"}) {
    if (!is_file(folder / file)) continue;
    if (const auto name = parse_end_of_text_name(read_named(folder / file))) return *name;
  }
  return BpeVocabulary{}.end_of_text_name;
}

// tokenizer.json first: it alone says how text is split and which tokens are special.
BpeVocabulary read_folder(const fs::path& folder) {
  if (is_file(folder / "tokenizer.json")) {
    return parse_tokenizer_json(read_named(folder / "tokenizer.json"), end_of_text_name(folder));
  }
  if (is_file(folder / "vocab.json") && is_file(folder / "merges.txt")) {
    return parse_vocabulary(read_named(folder / "vocab.json"), read_named(folder / "merges.txt"),
                            end_of_text_name(folder));
  }
  for (const char* file : {"vocab.bpe", "merges.txt"}) {
    if (is_file(folder / file)) return parse_merges(read_named(folder / file));
  }
  refuse(ExitCode::usage, "--tokenizer " + folder.string(),
         "a folder without a tokenizer: tokenizer.json, vocab.json and merges.txt, or vocab.bpe");
}

std::shared_ptr<const Tokenizer> open_file(const NamedText& file) {
  std::uint32_t magic = 0;
  std::memcpy(&magic, file.text.data(), std::min(sizeof magic, file.text.size()));
  if (magic == kLlmcTokenizerMagic) return llmc_tokenizer(file);
  if (file.text.starts_with('{')) {
    return bpe_tokenizer(parse_tokenizer_json(file, BpeVocabulary{}.end_of_text_name), file.name);
  }
  return bpe_tokenizer(parse_merges(file), file.name);
}

}  // namespace

std::shared_ptr<const Tokenizer> open_tokenizer(const std::string& name) {
  if (name == "bytes") return byte_tokenizer();
  if (name == "gpt2") return open_gpt2();
  std::error_code ignored;
  if (fs::is_directory(name, ignored)) return bpe_tokenizer(read_folder(name), name);
  if (is_file(name)) return open_file(read_named(name));
  const bool is_there = fs::exists(name, ignored);
  refuse(ExitCode::usage, "--tokenizer " + name,
         fmt::format("must be bytes, gpt2, or the path of a vocab.bpe, a tokenizer.json, a folder "
                     "with them, or llm.c's tokenizer .bin; {}",
                     is_there ? "this is neither a file nor a folder" : "there is no such path"));
}

}  // namespace lathe
