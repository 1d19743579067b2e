// What lies in a folder of Hugging Face's, by the names of its files.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/strict_json.h"
#include "hugging_face.h"
#include "lathe/error.h"
#include "lathe/files.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

constexpr const char* kTokenizerFiles[] = {
    "tokenizer.json",          "vocab.json",        "merges.txt", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json",
};

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

// "model-00001-of-00002.safetensors"
bool is_shard(std::string_view name) {
  constexpr std::string_view kBegin = "model-", kMiddle = "-of-", kEnd = ".safetensors";
  const auto is_number = [](std::string_view text) {
    return !text.empty() && text.find_first_not_of("0123456789") == text.npos;
  };
  if (!name.starts_with(kBegin) || !name.ends_with(kEnd)) return false;
  name.remove_prefix(kBegin.size());
  const std::size_t middle = name.find(kMiddle);
  if (middle == name.npos || name.size() < middle + kMiddle.size() + kEnd.size()) return false;
  name.remove_suffix(kEnd.size());
  return is_number(name.substr(0, middle)) && is_number(name.substr(middle + kMiddle.size()));
}

bool is_of_model(std::string_view name) {
  const auto is_name = [&](std::string_view known) { return name == known; };
  return std::ranges::any_of(kTokenizerFiles, is_name) || is_shard(name) ||
         is_name(kHuggingFaceConfig) || is_name(kHuggingFaceGeneration) ||
         is_name(kHuggingFaceModel) || is_name(kHuggingFaceIndex);
}

}  // namespace

std::vector<std::string> tokenizer_files(const fs::path& folder) {
  std::vector<std::string> names;
  for (const char* name : kTokenizerFiles) {
    if (is_there(folder / name)) names.emplace_back(name);
  }
  return names;
}

bool has_tokenizer(const fs::path& folder) {
  return is_there(folder / "tokenizer.json") ||
         (is_there(folder / "vocab.json") && is_there(folder / "merges.txt"));
}

std::string find_foreign_entry(const fs::path& folder) {
  std::error_code why;
  std::string first;
  fs::directory_iterator entry(folder, why);
  for (; !why && entry != fs::directory_iterator(); entry.increment(why)) {
    const std::string name = entry->path().filename().string();
    std::error_code ignored;
    if (is_of_model(name) && fs::is_regular_file(entry->path(), ignored)) continue;
    if (first.empty() || name < first) first = name;
  }
  if (!why) return first;
  throw Error(ExitCode::storage,
              fmt::format("{}: cannot list: {}", folder.string(), why.message()));
}

bool has_model_config(const fs::path& folder) {
  constexpr std::uint64_t kMostBytes = 1 << 20;
  const fs::path path = folder / kHuggingFaceConfig;
  try {
    if (InputFile(path, ExitCode::checkpoint).size() > kMostBytes) return false;
    const std::string text = read_file(path, ExitCode::checkpoint);
    const auto config = parse_json(text, path.string(), ExitCode::checkpoint);
    return config.is_object() && config.contains("model_type");
  } catch (const Error&) {
    return false;
  }
}

}  // namespace lathe
