// lathe inspect: finds out what each path is, gathers its facts and prints them, as text or JSON.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <span>

#include "base/file_kind.h"
#include "data/evaluation_file_format.h"
#include "data/shard_format.h"
#include "describe.h"
#include "lathe/checkpoint.h"
#include "lathe/commands.h"
#include "lathe/dataset.h"
#include "lathe/files.h"
#include "lathe/run_folder.h"
#include "lathe/tokenize.h"
#include "model_files/hugging_face.h"
#include "model_files/llmc_model.h"
#include "print_facts.h"
#include "tokenizer/llmc_tokenizer.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void refuse(const fs::path& path, const std::string& message) {
  throw Error(ExitCode::data, fmt::format("{}: {}", path.string(), message));
}

using Describe = Facts (*)(const fs::path&);

// The start of a file, up to `bytes` of it.
std::string read_start(const fs::path& path, std::size_t bytes) {
  const InputFile file(path, ExitCode::data);
  std::string start(std::min<std::uint64_t>(bytes, file.size()), '\0');
  file.read(0, std::as_writable_bytes(std::span(start)));
  return start;
}

// By the number that files of llm.c start with; without one that is known, nullptr.
Describe describer_of_magic(const fs::path& path) {
  std::int32_t magic = 0;
  const std::string start = read_start(path, sizeof magic);
  std::memcpy(&magic, start.data(), start.size());
  if (magic == ShardHeader::kMagic) return describe_shard;
  if (magic == EvaluationHeader::kMagic) return describe_multiple_choice;
  if (magic == kLlmcTokenizerMagic) return describe_llmc_tokenizer;
  if (magic == LlmcHeader::kMagic) return describe_llmc_model;
  return nullptr;
}

// JSON lines are metrics, unless the first one has the endings of a multiple-choice example, or
// text and no step.
Describe describer_of_lines(const fs::path& path) {
  constexpr std::size_t kLongestLine = 1 << 20;
  const std::string start = read_start(path, kLongestLine);
  const auto line = nlohmann::json::parse(start.substr(0, start.find('\n')), nullptr,
                                          /*allow_exceptions=*/false);
  if (!line.is_object()) return describe_metrics;
  if (line.contains("endings")) return describe_multiple_choice;
  const bool has_text = line.contains(kDefaultTextField) && !line.contains("step");
  return has_text ? describe_documents : describe_metrics;
}

// By the name where it says what the file is.
Describe describer_of_name(const fs::path& path) {
  const std::string ending = path.extension().string();
  const fs::path name = path.filename();
  if (ending == ".bpe" || name == "merges.txt" || name == "tokenizer.json") return describe_bpe;
  if (ending == ".safetensors") return describe_safetensors;
  if (ending == ".jsonl") return describer_of_lines(path);
  if (ending == ".toml") return describe_config;
  if (ending == ".json") return describe_result;
  if (ending == ".txt" || ending == ".md") return describe_text;
  if (ending == ".bin") {
    const Describe by_magic = describer_of_magic(path);
    return by_magic != nullptr ? by_magic : describe_shard;
  }
  return nullptr;
}

// By the first bytes, for any other name.
Describe describer_of_content(const fs::path& path) {
  if (const Describe by_magic = describer_of_magic(path)) return by_magic;
  const std::string start = read_start(path, 9);
  if (start.size() == 9 && start[8] == '{' && start[7] == 0) return describe_safetensors;
  refuse(
      path,
      "not a file that Lathe reads: a run, checkpoint, Hugging Face, dataset or tokenizer "
      "folder, .safetensors, .bin (token shard, evaluation file, llm.c model or tokenizer), .txt "
      "or .md (text), .jsonl (metrics, multiple choice, documents), config.toml, result.json, "
      "dataset.json, vocab.bpe, merges.txt, tokenizer.json");
}

Facts describe_folder(const fs::path& folder, std::vector<Error>& problems) {
  switch (folder_kind(folder)) {
    case FolderKind::checkpoint:
      return describe_checkpoint(folder);
    case FolderKind::hugging_face_model:
      return describe_hugging_face_model(folder);
    case FolderKind::run:
      return describe_run(folder, problems);
    case FolderKind::dataset:
      return describe_dataset(folder);
    case FolderKind::tokenizer:
      return describe_bpe(folder);
    case FolderKind::unknown:
      break;
  }
  refuse(folder,
         "a folder that is no run (config.toml, metrics.jsonl, checkpoints), checkpoint "
         "(state.json), Hugging Face model (config.json), dataset (dataset.json) or tokenizer "
         "(merges.txt, "
         "tokenizer.json)");
}

Facts describe(const fs::path& path, const std::string& data_format, std::vector<Error>& problems) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) return describe_folder(path, problems);
  const fs::path around = fs::absolute(path).parent_path();
  if (path.filename() == "state.json") return describe_checkpoint(around);
  if (path.filename() == kHuggingFaceConfig) return describe_hugging_face_model(around);
  if (path.filename() == kDatasetFile) return describe_dataset(around);
  if (path.filename() == kTokenKeysFile) return describe_token_keys(path);
  if (data_format == "llmc") return describe_shard(path);
  if (data_format == "nanogpt") return describe_raw_tokens(path);
  if (data_format == "text") return describe_text(path);
  if (data_format == "jsonl") return describe_documents(path);
  const Describe by_name = describer_of_name(path);
  return by_name != nullptr ? by_name(path) : describer_of_content(path)(path);
}

}  // namespace

// Exits with the code of the first thing that is unsound, having told all that is sound.
int inspect_command(const Options& options) {
  for (const std::string& path : options.paths) {
    std::vector<Error> problems;
    Facts facts = {{"path", path}};
    facts.update(describe(path, options.data_format, problems));
    for (const Error& problem : problems) facts["problems"].push_back(problem.what());
    if (options.json) {
      fmt::print("{}\n",
                 facts.dump(-1, ' ', /*ensure_ascii=*/true, Facts::error_handler_t::replace));
    } else {
      fmt::print("{}", facts_text(facts));
    }
    if (!problems.empty()) throw problems.front();
  }
  return 0;
}

}  // namespace lathe
