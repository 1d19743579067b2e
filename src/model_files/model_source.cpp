#include "lathe/model_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/file_kind.h"
#include "hugging_face.h"
#include "lathe/error.h"
#include "lathe/files.h"
#include "lathe/gpt2_tokens.h"
#include "lathe_model.h"
#include "llmc_model.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

// By its first bytes: of a file.
bool is_llmc_model(const fs::path& path) {
  const InputFile file(path, ExitCode::checkpoint);
  std::int32_t magic = 0;
  if (file.size() < sizeof magic) return false;
  file.read(0, std::as_writable_bytes(std::span(&magic, 1)));
  return magic == LlmcHeader::kMagic;
}

// What is no model is named for what it is, not for what its bytes would mean in one.
void require_safetensors(const fs::path& path) {
  const FileKind kind = file_kind(path);
  if (kind == FileKind::safetensors || path.extension() == ".safetensors") return;
  const auto refuse = [&](const std::string& reason) {
    throw Error(ExitCode::checkpoint, fmt::format("{}: {}", path.string(), reason));
  };
  if (folder_kind(path.parent_path()) != FolderKind::unknown && path.extension() == ".json") {
    refuse("is only the description of a model; give its folder");
  }
  refuse(
      fmt::format("is {}, no model: that is a run, a checkpoint, a folder of Hugging Face, a "
                  ".safetensors file, or a model of llm.c",
                  title(kind)));
}

}  // namespace

std::string_view title(ModelFormat format) {
  switch (format) {
    case ModelFormat::lathe:
      return "Lathe model";
    case ModelFormat::hugging_face:
      return "Hugging Face GPT-2";
    case ModelFormat::llmc:
      return "llm.c model";
  }
  return "unknown";
}

std::unique_ptr<ModelSource> open_model(const fs::path& path, Weights weights) {
  std::error_code ignored;
  if (!fs::exists(path, ignored)) {
    throw Error(ExitCode::checkpoint, fmt::format("{}: no such file or folder", path.string()));
  }
  if (fs::is_directory(path, ignored)) {
    if (fs::exists(path / kHuggingFaceConfig, ignored)) return open_hugging_face_model(path);
    return open_lathe_model(path, weights);
  }
  if (is_llmc_model(path)) return open_llmc_model(path);
  require_safetensors(path);
  return open_lathe_model(path, weights);
}

void assume_gpt2_tokens(ModelInfo& info) {
  if (info.config.vocab != kGpt2Vocab) return;
  if (info.tokenizer == "none") info.tokenizer = "gpt2";
  if (info.tokenizer == "gpt2" && !info.end_of_text) info.end_of_text = kGpt2EndOfText;
}

void for_each_rows(const ParameterSpec& spec,
                   const std::function<void(const ParameterRows&)>& visit) {
  constexpr std::int64_t kPiece = std::int64_t{1} << 22;  // elements
  const std::int64_t rows = spec.shape[0];
  const std::int64_t at_once = std::max<std::int64_t>(1, kPiece / (spec.count() / rows));
  for (std::int64_t first = 0; first < rows; first += at_once) {
    visit({.spec = &spec, .first = first, .count = std::min(at_once, rows - first)});
  }
}

}  // namespace lathe
