// What a file holds, as one JSON object: the facts that `lathe inspect` prints, each stated once.
// A description reads all of its file; what is unsound throws the Error of who reads it in earnest.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <vector>

#include "lathe/error.h"

namespace lathe {

using Facts = nlohmann::ordered_json;

Facts describe_safetensors(const std::filesystem::path& path);
Facts describe_checkpoint(const std::filesystem::path& folder);
Facts describe_hugging_face_model(const std::filesystem::path& folder);
Facts describe_llmc_model(const std::filesystem::path& path);
Facts describe_shard(const std::filesystem::path& path);            // llm.c
Facts describe_raw_tokens(const std::filesystem::path& path);       // nanoGPT
Facts describe_multiple_choice(const std::filesystem::path& path);  // llm.c, or JSON lines
Facts describe_bpe(
    const std::filesystem::path& path);  // vocab.bpe, tokenizer.json, a folder of such
Facts describe_llmc_tokenizer(const std::filesystem::path& path);
Facts describe_text(const std::filesystem::path& path);
Facts describe_documents(const std::filesystem::path& path);   // JSON lines
Facts describe_token_keys(const std::filesystem::path& path);  // a run's tokens.json
Facts describe_dataset(const std::filesystem::path& folder);   // with a dataset.json
Facts describe_metrics(const std::filesystem::path& path);
Facts describe_config(const std::filesystem::path& path);
Facts describe_result(const std::filesystem::path& path);

// A run is described as far as it is sound; what is not goes into `problems`.
Facts describe_run(const std::filesystem::path& folder, std::vector<Error>& problems);

}  // namespace lathe
