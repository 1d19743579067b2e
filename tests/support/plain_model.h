// Models of other programs as files, written by what their formats' descriptions say and without
// Lathe's code: names, order and layouts stand here once more, by hand.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "lathe/model_config.h"
#include "support/json.h"

namespace lathe::test {

struct PlainModel {
  ModelConfig config;
  std::map<std::string, std::vector<float>> parameters;  // by Lathe's names, rows of (out, in)
};

// Multiples of 1/64 in [-2, 2), which fp32, fp16 and bf16 all hold exactly.
PlainModel random_plain_model(const ModelConfig& config, std::uint32_t seed);

// A tensor of GPT-2 as Hugging Face's transformers names it, without prefix.
struct HuggingFaceName {
  std::string lathe, theirs;
  std::vector<std::int64_t> shape;
  bool is_transposed;
};
std::vector<HuggingFaceName> hugging_face_names(const ModelConfig& config);

struct HuggingFaceSpec {
  std::string type = "F32";  // F32 | F16 | BF16
  std::string prefix = "transformer.";
  bool masks = false;  // h.i.attn.bias and h.i.attn.masked_bias, as older versions saved them
  bool head = false;   // lm_head.weight, equal to wte.weight
  int files = 1;       // more: with an index
};

nlohmann::ordered_json hugging_face_config(const ModelConfig& config);

// Writes config.json and safetensors into a folder, which it makes. Tensors by name, as
// save_pretrained writes them.
void write_hugging_face_folder(const std::filesystem::path& folder, const PlainModel& model,
                               const HuggingFaceSpec& spec);

// version 3 or 5; rows of the token table beyond config.vocab hold `padding`.
struct LlmcSpec {
  std::int32_t version = 3;
  std::int32_t padded_vocab = 0;  // 0: the next multiple of 128
  float padding = 0;
};
std::string llmc_model_bytes(const PlainModel& model, const LlmcSpec& spec);

// Elements as a type stores them, which must hold them exactly.
std::string element_bytes(const std::vector<float>& values, const std::string& type);

}  // namespace lathe::test
