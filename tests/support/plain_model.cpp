#include "support/plain_model.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <fstream>
#include <random>
#include <stdexcept>

namespace lathe::test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using nlohmann::ordered_json;

void write_file(const fs::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

std::uint16_t half_bits(float x) {
  const std::uint16_t sign = std::signbit(x) ? 0x8000 : 0;
  if (x == 0) return sign;
  int exponent = 0;
  const double fraction = std::frexp(std::abs(x), &exponent);  // [0.5, 1)
  return static_cast<std::uint16_t>(sign | ((exponent + 14) << 10) |
                                    (static_cast<int>(fraction * 2048) - 1024));
}

template <class T>
void append(std::string& bytes, T value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
}

// (out, in) to (in, out).
std::vector<float> transposed(const std::vector<float>& values, std::int64_t in) {
  const std::int64_t out = std::ssize(values) / in;
  std::vector<float> result(values.size());
  for (std::int64_t o = 0; o < out; ++o) {
    for (std::int64_t i = 0; i < in; ++i) {
      result[static_cast<std::size_t>(i * out + o)] = values[static_cast<std::size_t>(o * in + i)];
    }
  }
  return result;
}

struct FileTensor {
  std::string type;
  std::vector<std::int64_t> shape;
  std::string bytes;
};

std::string safetensors_bytes(const std::map<std::string, FileTensor>& tensors) {
  ordered_json header = {{"__metadata__", {{"format", "pt"}}}};
  std::string data;
  for (const auto& [name, tensor] : tensors) {
    header[name] = {{"dtype", tensor.type},
                    {"shape", tensor.shape},
                    {"data_offsets", {data.size(), data.size() + tensor.bytes.size()}}};
    data += tensor.bytes;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  std::string bytes;
  append(bytes, std::uint64_t{text.size()});
  return bytes + text + data;
}

}  // namespace

PlainModel random_plain_model(const ModelConfig& config, std::uint32_t seed) {
  PlainModel model{.config = config, .parameters = {}};
  std::mt19937 random(seed);
  for (const HuggingFaceName& name : hugging_face_names(config)) {
    std::int64_t count = 1;
    for (const std::int64_t n : name.shape) count *= n;
    std::vector<float>& values = model.parameters[name.lathe];
    for (std::int64_t i = 0; i < count; ++i) {
      values.push_back((static_cast<float>(random() % 256) - 128) / 64);
    }
  }
  return model;
}

std::vector<HuggingFaceName> hugging_face_names(const ModelConfig& config) {
  const std::int64_t C = config.channels;
  std::vector<HuggingFaceName> names = {
      {"token_embedding.weight", "wte.weight", {config.vocab, C}, false},
      {"position_embedding.weight", "wpe.weight", {config.context, C}, false},
      {"final_ln.gain", "ln_f.weight", {C}, false},
      {"final_ln.bias", "ln_f.bias", {C}, false}};
  for (std::int64_t l = 0; l < config.layers; ++l) {
    const std::string ours = "blocks." + std::to_string(l) + ".";
    const std::string theirs = "h." + std::to_string(l) + ".";
    for (const auto& name : std::vector<HuggingFaceName>{
             {"ln1.gain", "ln_1.weight", {C}, false},
             {"ln1.bias", "ln_1.bias", {C}, false},
             {"attention.qkv.weight", "attn.c_attn.weight", {C, 3 * C}, true},
             {"attention.qkv.bias", "attn.c_attn.bias", {3 * C}, false},
             {"attention.proj.weight", "attn.c_proj.weight", {C, C}, true},
             {"attention.proj.bias", "attn.c_proj.bias", {C}, false},
             {"ln2.gain", "ln_2.weight", {C}, false},
             {"ln2.bias", "ln_2.bias", {C}, false},
             {"mlp.fc.weight", "mlp.c_fc.weight", {C, 4 * C}, true},
             {"mlp.fc.bias", "mlp.c_fc.bias", {4 * C}, false},
             {"mlp.proj.weight", "mlp.c_proj.weight", {4 * C, C}, true},
             {"mlp.proj.bias", "mlp.c_proj.bias", {C}, false}}) {
      names.push_back({ours + name.lathe, theirs + name.theirs, name.shape, name.is_transposed});
    }
  }
  return names;
}

ordered_json hugging_face_config(const ModelConfig& config) {
  return {{"model_type", "gpt2"},
          {"architectures", {"GPT2LMHeadModel"}},
          {"activation_function", "gelu_new"},
          {"n_layer", config.layers},
          {"n_head", config.heads},
          {"n_embd", config.channels},
          {"n_positions", config.context},
          {"vocab_size", config.vocab},
          {"layer_norm_epsilon", 1e-5},
          {"eos_token_id", 7}};
}

void write_hugging_face_folder(const fs::path& folder, const PlainModel& model,
                               const HuggingFaceSpec& spec) {
  fs::create_directories(folder);
  write_file(folder / "config.json", hugging_face_config(model.config).dump(2));
  std::map<std::string, FileTensor> tensors;
  for (const HuggingFaceName& name : hugging_face_names(model.config)) {
    const std::vector<float>& values = model.parameters.at(name.lathe);
    tensors[spec.prefix + name.theirs] = {
        spec.type, name.shape,
        element_bytes(name.is_transposed ? transposed(values, name.shape[0]) : values, spec.type)};
  }
  const std::int64_t T = model.config.context;
  for (std::int64_t l = 0; spec.masks && l < model.config.layers; ++l) {
    const std::string attention = spec.prefix + "h." + std::to_string(l) + ".attn.";
    tensors[attention + "bias"] = {
        "BOOL", {1, 1, T, T}, std::string(static_cast<std::size_t>(T * T), '\1')};
    tensors[attention + "masked_bias"] = {"F32", {}, element_bytes({-1e4f}, "F32")};
  }
  if (spec.head) tensors["lm_head.weight"] = tensors.at(spec.prefix + "wte.weight");
  if (spec.files == 1) {
    write_file(folder / "model.safetensors", safetensors_bytes(tensors));
    return;
  }
  json index = {{"metadata", {{"total_size", 0}}}, {"weight_map", json::object()}};
  std::map<std::string, std::map<std::string, FileTensor>> files;
  for (const auto& [name, tensor] : tensors) {
    const std::size_t file = index["weight_map"].size() % static_cast<std::size_t>(spec.files);
    const std::string file_name = "model-" + std::to_string(file) + ".safetensors";
    index["weight_map"][name] = file_name;
    files[file_name][name] = tensor;
  }
  for (const auto& [name, part] : files) write_file(folder / name, safetensors_bytes(part));
  write_file(folder / "model.safetensors.index.json", index.dump());
}

std::string llmc_model_bytes(const PlainModel& model, const LlmcSpec& spec) {
  const ModelConfig& config = model.config;
  const std::int64_t padded =
      spec.padded_vocab > 0 ? spec.padded_vocab : (config.vocab + 127) / 128 * 128;
  const std::string type = spec.version == 3 ? "F32" : "BF16";
  std::string bytes;
  for (const std::int64_t word :
       {std::int64_t{20240326}, std::int64_t{spec.version}, config.context, config.vocab,
        config.layers, config.heads, config.channels, padded}) {
    append(bytes, static_cast<std::int32_t>(word));
  }
  bytes.resize(1024);
  bytes += element_bytes(model.parameters.at("token_embedding.weight"), type);
  bytes += element_bytes(
      std::vector<float>(static_cast<std::size_t>((padded - config.vocab) * config.channels),
                         spec.padding),
      type);
  bytes += element_bytes(model.parameters.at("position_embedding.weight"), type);
  for (const char* name : {"ln1.gain", "ln1.bias", "attention.qkv.weight", "attention.qkv.bias",
                           "attention.proj.weight", "attention.proj.bias", "ln2.gain", "ln2.bias",
                           "mlp.fc.weight", "mlp.fc.bias", "mlp.proj.weight", "mlp.proj.bias"}) {
    for (std::int64_t l = 0; l < config.layers; ++l) {
      bytes += element_bytes(model.parameters.at("blocks." + std::to_string(l) + "." + name), type);
    }
  }
  for (const char* name : {"final_ln.gain", "final_ln.bias"}) {
    bytes += element_bytes(model.parameters.at(name), type);
  }
  return bytes;
}

std::string element_bytes(const std::vector<float>& values, const std::string& type) {
  std::string bytes;
  for (const float value : values) {
    if (type == "F32") append(bytes, value);
    if (type == "F16") append(bytes, half_bits(value));
    if (type == "BF16")
      append(bytes, static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16));
  }
  return bytes;
}

}  // namespace lathe::test
