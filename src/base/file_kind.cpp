#include "file_kind.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>

#include "data/evaluation_file_format.h"
#include "data/shard_format.h"
#include "lathe/dataset.h"
#include "lathe/error.h"
#include "lathe/files.h"
#include "model_files/hugging_face.h"
#include "model_files/llmc_model.h"
#include "tokenizer/llmc_tokenizer.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

// The length of its header, below 2^32 here, and the header, a JSON object.
constexpr std::size_t kSafetensorsStart = 9;

std::string read_start(const fs::path& path) {
  std::error_code ignored;
  if (!fs::is_regular_file(path, ignored)) return "";
  try {
    const InputFile file(path, ExitCode::data);
    std::string start(std::min<std::uint64_t>(kSafetensorsStart, file.size()), '\0');
    file.read(0, std::as_writable_bytes(std::span(start)));
    return start;
  } catch (const Error&) {
    return "";
  }
}

bool has_any(const fs::path& folder, std::span<const char* const> names) {
  std::error_code ignored;
  for (const char* name : names) {
    if (fs::exists(folder / name, ignored)) return true;
  }
  return false;
}

}  // namespace

FileKind file_kind(const fs::path& path) {
  const std::string start = read_start(path);
  std::int32_t magic = 0;
  if (start.size() < sizeof magic) return FileKind::unknown;
  std::memcpy(&magic, start.data(), sizeof magic);
  if (magic == ShardHeader::kMagic) return FileKind::token_shard;
  if (magic == EvaluationHeader::kMagic) return FileKind::multiple_choice;
  if (magic == std::int32_t{kLlmcTokenizerMagic}) return FileKind::llmc_tokenizer;
  if (magic == LlmcHeader::kMagic) return FileKind::llmc_model;
  const bool has_length =
      start.size() == kSafetensorsStart && start.substr(4, 4) == std::string(4, '\0');
  return has_length && start.back() == '{' ? FileKind::safetensors : FileKind::unknown;
}

std::string_view title(FileKind kind) {
  switch (kind) {
    case FileKind::token_shard:
      return "a token shard of llm.c";
    case FileKind::multiple_choice:
      return "a multiple-choice file of llm.c";
    case FileKind::llmc_tokenizer:
      return "a tokenizer of llm.c";
    case FileKind::llmc_model:
      return "a model of llm.c";
    case FileKind::safetensors:
      return "a safetensors file";
    case FileKind::unknown:
      break;
  }
  return "a file of no known kind";
}

FolderKind folder_kind(const fs::path& folder) {
  constexpr std::array kRun = {"config.toml", "metrics.jsonl", "checkpoints"};
  constexpr std::array kTokenizer = {"merges.txt", "tokenizer.json", "vocab.bpe"};
  if (has_any(folder, std::array{"state.json"})) return FolderKind::checkpoint;
  if (has_any(folder, std::array{kHuggingFaceConfig})) return FolderKind::hugging_face_model;
  if (has_any(folder, kRun)) return FolderKind::run;
  if (has_any(folder, std::array{kDatasetFile})) return FolderKind::dataset;
  return has_any(folder, kTokenizer) ? FolderKind::tokenizer : FolderKind::unknown;
}

std::string_view title(FolderKind kind) {
  switch (kind) {
    case FolderKind::checkpoint:
      return "a checkpoint (state.json)";
    case FolderKind::hugging_face_model:
      return "a model of Hugging Face (config.json)";
    case FolderKind::run:
      return "a run (config.toml, metrics.jsonl, checkpoints)";
    case FolderKind::dataset:
      return "a dataset (dataset.json)";
    case FolderKind::tokenizer:
      return "a tokenizer (merges.txt, tokenizer.json, vocab.bpe)";
    case FolderKind::unknown:
      break;
  }
  return "a folder of no known kind";
}

void require_no_other(FolderKind wanted, const fs::path& out) {
  const std::string_view made = wanted == FolderKind::dataset ? "shards" : "the tokenizer";
  const auto refuse = [&](const std::string& what) {
    throw Error(ExitCode::usage, fmt::format("--out {}: is {}; give {} a folder of its own",
                                             out.string(), what, made));
  };
  const FolderKind found = folder_kind(out);
  if (found != FolderKind::unknown && found != wanted) refuse(std::string(title(found)));
  std::error_code ignored;
  fs::path folder = fs::weakly_canonical(out, ignored);
  if (folder.filename().empty()) folder = folder.parent_path();
  const FolderKind around = folder_kind(folder.parent_path());
  const bool has_tokenizer = around == FolderKind::run || around == FolderKind::dataset;
  if (has_tokenizer && folder.filename() == kTokenizerFolder && fs::exists(folder, ignored)) {
    refuse(fmt::format("the tokenizer of {}", title(around)));
  }
}

}  // namespace lathe
