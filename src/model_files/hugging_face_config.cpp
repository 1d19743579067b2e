#include "hugging_face_config.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <limits>
#include <nlohmann/json.hpp>

#include "base/strict_json.h"
#include "lathe/error.h"

namespace lathe {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr SizeNames kSizeNames = {.layers = "n_layer",
                                  .heads = "n_head",
                                  .channels = "n_embd",
                                  .context = "n_positions",
                                  .vocab = "vocab_size"};
constexpr double kLayerNormEpsilon = 1e-5;

std::string value_text(const json& value) {
  return quote(value.is_string() ? value.get<std::string>()
                                 : value.dump(-1, ' ', true, json::error_handler_t::replace));
}

class ConfigReader {
 public:
  ConfigReader(const json& root, const std::string& source) : root_(root), source_(source) {}

  [[noreturn]] void refuse(const std::string& message) const {
    throw Error(ExitCode::checkpoint, fmt::format("{}: {}", source_, message));
  }

  // nullptr: absent, or null, which stands for the default.
  const json* find(std::string_view key) const {
    const auto found = root_.find(key);
    return found == root_.end() || found->is_null() ? nullptr : &*found;
  }

  std::int64_t integer(std::string_view key) const {
    const json* value = find(key);
    if (value == nullptr) refuse(fmt::format("has no \"{}\"", key));
    if (!is_integer(*value)) {
      refuse(fmt::format("\"{}\" is {}, must be a whole number", key, value_text(*value)));
    }
    return value->get<std::int64_t>();
  }

  // Lathe's model is what it is: any other value would make another.
  template <class T>
  void require(std::string_view key, const T& needed) const {
    const json* value = find(key);
    if (value != nullptr && *value != json(needed)) refuse_value(key, needed);
  }
  template <class T>
  [[noreturn]] void refuse_value(std::string_view key, const T& needed) const {
    refuse(fmt::format("\"{}\" is {}, Lathe's GPT-2 needs {}", key, value_text(*find(key)),
                       value_text(json(needed))));
  }

  std::optional<std::int64_t> token(std::string_view key, std::int64_t vocab) const {
    const json* value = find(key);
    if (value == nullptr || !is_integer(*value)) return std::nullopt;  // a list: several end a text
    const auto token = value->get<std::int64_t>();
    return token >= 0 && token < vocab ? std::optional(token) : std::nullopt;
  }

 private:
  static bool is_integer(const json& value) {
    if (!value.is_number_unsigned()) return value.is_number_integer();
    return value.get<std::uint64_t>() <= std::uint64_t{std::numeric_limits<std::int64_t>::max()};
  }

  const json& root_;
  const std::string& source_;
};

// The function that GPT-2 uses has two names.
void check_activation(const ConfigReader& reader) {
  const json* value = reader.find("activation_function");
  if (value == nullptr || *value == "gelu_new" || *value == "gelu_pytorch_tanh") return;
  reader.refuse_value("activation_function", "gelu_new");
}

// Of what decides how the model computes. What is absent has the value that GPT-2 has.
// reorder_and_upcast_attn is not of that kind: it is about the order of scaling and about fp32 in
// the softmax, which Lathe has in any case.
void check_mathematics(const ConfigReader& reader, const ModelConfig& model) {
  check_activation(reader);
  reader.require("n_inner", 4 * model.channels);
  reader.require("layer_norm_epsilon", kLayerNormEpsilon);
  reader.require("scale_attn_weights", true);
  reader.require("scale_attn_by_inverse_layer_idx", false);
  reader.require("add_cross_attention", false);
  reader.require("is_encoder_decoder", false);
  reader.require("pruned_heads", json::object());
  if (reader.find("quantization_config") != nullptr) {
    reader.refuse("\"quantization_config\": Lathe reads no quantised weights");
  }
}

std::vector<std::string> find_dropout(const ConfigReader& reader, const std::string& source) {
  std::vector<std::string> found;
  for (const char* key : {"attn_pdrop", "embd_pdrop", "resid_pdrop"}) {
    const json* value = reader.find(key);
    if (value == nullptr || *value == 0) continue;
    found.push_back(fmt::format("{} {}", key, value->dump()));
  }
  if (found.empty()) return {};
  return {fmt::format("{}: dropout is ignored, Lathe trains without: {}", source,
                      fmt::join(found, ", "))};
}

std::optional<std::int64_t> begin_of_text(const ModelInfo& info) {
  return info.begin_of_text ? info.begin_of_text : info.end_of_text;
}

}  // namespace

HuggingFaceConfig parse_hugging_face_config(std::string_view text, const std::string& source) {
  const json root = parse_json(text, source, ExitCode::checkpoint);
  const ConfigReader reader(root, source);
  if (!root.is_object()) reader.refuse("must be a JSON object");
  if (reader.find("model_type") == nullptr) reader.refuse("has no \"model_type\"");
  reader.require("model_type", "gpt2");
  HuggingFaceConfig config{.model = {.layers = reader.integer(kSizeNames.layers),
                                     .heads = reader.integer(kSizeNames.heads),
                                     .channels = reader.integer(kSizeNames.channels),
                                     .context = reader.integer(kSizeNames.context),
                                     .vocab = reader.integer(kSizeNames.vocab)},
                           .ties_head = true,
                           .end_of_text = std::nullopt,
                           .begin_of_text = std::nullopt,
                           .remarks = {}};
  if (const auto problem = find_size_problem(config.model, kSizeNames)) reader.refuse(*problem);
  check_mathematics(reader, config.model);
  const json* ties = reader.find("tie_word_embeddings");
  config.ties_head = ties == nullptr || *ties != false;
  config.end_of_text = reader.token("eos_token_id", config.model.vocab);
  config.begin_of_text = reader.token("bos_token_id", config.model.vocab);
  config.remarks = find_dropout(reader, source);
  return config;
}

std::string hugging_face_config_text(const ModelInfo& info, DType type) {
  const ModelConfig& model = info.config;
  const auto token = [](std::optional<std::int64_t> id) {
    return id ? ordered_json(*id) : ordered_json(nullptr);
  };
  const ordered_json config = {{"model_type", "gpt2"},
                               {"architectures", {"GPT2LMHeadModel"}},
                               {kSizeNames.vocab, model.vocab},
                               {kSizeNames.context, model.context},
                               {"n_ctx", model.context},
                               {kSizeNames.channels, model.channels},
                               {kSizeNames.layers, model.layers},
                               {kSizeNames.heads, model.heads},
                               {"n_inner", nullptr},
                               {"activation_function", "gelu_new"},
                               {"layer_norm_epsilon", kLayerNormEpsilon},
                               {"initializer_range", 0.02},
                               {"attn_pdrop", 0.0},
                               {"embd_pdrop", 0.0},
                               {"resid_pdrop", 0.0},
                               {"scale_attn_weights", true},
                               {"tie_word_embeddings", true},
                               {"bos_token_id", token(begin_of_text(info))},
                               {"eos_token_id", token(info.end_of_text)},
                               {"torch_dtype", type == DType::bf16 ? "bfloat16" : "float32"},
                               {"use_cache", true}};
  return config.dump(2) + "\n";
}

std::string generation_config_text(const ModelInfo& info) {
  ordered_json config = {{"_from_model_config", true}};
  if (const auto token = begin_of_text(info)) config["bos_token_id"] = *token;
  if (info.end_of_text) config["eos_token_id"] = *info.end_of_text;
  return config.dump(2) + "\n";
}

}  // namespace lathe
