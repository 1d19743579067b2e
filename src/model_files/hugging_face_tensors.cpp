#include <utility>

#include "hugging_face.h"

namespace lathe {
namespace {

constexpr std::pair<std::string_view, std::string_view> kNames[] = {
    {"token_embedding", "wte"},
    {"position_embedding", "wpe"},
    {"blocks.", "h."},
    {"ln1.", "ln_1."},
    {"ln2.", "ln_2."},
    {"final_ln.", "ln_f."},
    {"attention.qkv", "attn.c_attn"},
    {"attention.proj", "attn.c_proj"},
    {"mlp.fc", "mlp.c_fc"},
    {"mlp.proj", "mlp.c_proj"},
    {".gain", ".weight"},
};

}  // namespace

HuggingFaceTensor hugging_face_tensor(const ParameterSpec& spec) {
  std::string name = spec.name;
  for (const auto& [ours, theirs] : kNames) {
    if (const std::size_t at = name.find(ours); at != name.npos) {
      name.replace(at, ours.size(), theirs);
    }
  }
  return {.name = name, .is_transposed = spec.block >= 0 && spec.shape.size() == 2};
}

std::vector<std::int64_t> hugging_face_shape(const ParameterSpec& spec) {
  if (!hugging_face_tensor(spec).is_transposed) return spec.shape;
  return {spec.shape[1], spec.shape[0]};
}

}  // namespace lathe
