// config.json of a GPT-2 of Hugging Face's transformers: what of it Lathe follows. A key that Lathe
// does not know is passed over; one that would make another model is refused, with its value.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lathe/model_config.h"
#include "lathe/model_source.h"

namespace lathe {

struct HuggingFaceConfig {
  ModelConfig model;
  bool ties_head;  // tie_word_embeddings: the output head is the token embedding
  std::optional<std::int64_t> end_of_text;    // eos_token_id
  std::optional<std::int64_t> begin_of_text;  // bos_token_id
  std::vector<std::string> remarks;           // what Lathe does not follow, such as dropout
};

// `source`, the file's name, begins every message. Errors: checkpoint.
HuggingFaceConfig parse_hugging_face_config(std::string_view text, const std::string& source);

// What AutoModelForCausalLM.from_pretrained wants to know; `type` is that of the tensors.
std::string hugging_face_config_text(const ModelInfo& info, DType type);
std::string generation_config_text(const ModelInfo& info);

}  // namespace lathe
