// What a file or folder is: a file by its first bytes, a folder by the names in it. Nothing here
// says that it is sound.
#pragma once

#include <filesystem>
#include <string_view>

namespace lathe {

enum class FileKind {
  unknown,
  token_shard,
  multiple_choice,
  llmc_tokenizer,
  llmc_model,
  safetensors,
};

FileKind file_kind(const std::filesystem::path& path);  // unknown, too, for what cannot be read
std::string_view title(FileKind kind);                  // "a token shard of llm.c"

enum class FolderKind { unknown, checkpoint, hugging_face_model, run, dataset, tokenizer };

FolderKind folder_kind(const std::filesystem::path& folder);  // unknown, too, for what is no folder
std::string_view title(FolderKind kind);                      // "a run (config.toml, ...)"

// Refuses a folder that a command is to write `wanted` into and that is, or belongs to, something
// else: Error(usage), naming --out.
void require_no_other(FolderKind wanted, const std::filesystem::path& out);

}  // namespace lathe
