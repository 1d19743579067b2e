// What makes a GPT-2: its five sizes, and everything that follows from them alone.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lathe/tensor.h"

namespace lathe {

// The largest vocabulary that a model may have, with and without padding rows.
inline constexpr std::int64_t kMostVocab = 1 << 20;

struct ModelConfig {
  std::int64_t layers;    // L
  std::int64_t heads;     // H, divides channels
  std::int64_t channels;  // C
  std::int64_t context;   // positions the model has; seq_len may be shorter
  std::int64_t vocab;     // V

  // Vp: rows of the token table in memory. The rows past V are zero, take no part in softmax or
  // gradients, and are in no file.
  std::int64_t padded_vocab() const { return (vocab + 127) / 128 * 128; }
  bool operator==(const ModelConfig&) const = default;
};

// Sizes of a preset ("tiny", "gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl", "d12", "d24", "d36",
// "d48"); nullopt when there is none of that name. vocab is 0: it is the tokenizer's.
std::optional<ModelConfig> model_preset(std::string_view name);
std::vector<std::string> model_preset_names();

// Throws Error(usage) naming the option and what would be right.
void validate(const ModelConfig& config);

// What the sizes are called where they come from.
struct SizeNames {
  std::string_view layers = "layers", heads = "heads", channels = "channels", context = "context",
                   vocab = "vocab";
};
// "n_layer 0: must be between 1 and 1000" of the first that cannot be; nullopt: none.
std::optional<std::string> find_size_problem(const ModelConfig& config, const SizeNames& names);

// One parameter tensor. Memory is flat: the tensor lives at elements [offset, offset + padded
// rows * row length) of every buffer that has one entry per parameter (values, gradients, m, v).
struct ParameterSpec {
  std::string name;                 // "blocks.3.attention.qkv.weight"
  std::vector<std::int64_t> shape;  // without padding rows; linear weights are (out, in)
  std::int64_t offset;              // elements, a multiple of 64
  std::int64_t padded_rows;         // first dimension in memory; shape[0] but for the token table
  enum class Init { zeros, ones, normal } init;
  float init_stddev;  // of Init::normal
  bool decays;        // weight decay applies: matrices and embeddings
  int block;          // -1 embeddings, 0..L-1 transformer blocks, L the final layernorm

  std::int64_t count() const;         // elements without padding
  std::int64_t padded_count() const;  // elements in memory
};

// All parameters in memory order: block-major, a block's matrices before its vectors. Everything
// that visits parameters (memory, init, decay, checkpoints, tests) visits this list.
std::vector<ParameterSpec> parameter_specs(const ModelConfig& config);

std::int64_t parameter_memory_count(const std::vector<ParameterSpec>& specs);  // flat elements
std::int64_t parameter_count(const std::vector<ParameterSpec>& specs);         // without padding

}  // namespace lathe
