// Models of Hugging Face and llm.c: every element comes in under its name and in its place, from
// files that the tests write without Lathe, and whatever is not such a model is refused.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <map>
#include <numeric>

#include "lathe/bf16.h"
#include "lathe/fp16.h"
#include "lathe/model_files.h"
#include "model_files/hugging_face.h"
#include "model_files/hugging_face_config.h"
#include "model_files/lathe_model.h"
#include "model_files/llmc_model.h"
#include "support/error_of.h"
#include "support/golden.h"
#include "support/plain_model.h"
#include "support/temp_dir.h"
#include "support/test_model.h"

namespace lathe::test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr ModelConfig kOdd = {.layers = 2, .heads = 3, .channels = 21, .context = 13, .vocab = 61};
constexpr ModelConfig kLeast = {.layers = 1, .heads = 1, .channels = 1, .context = 1, .vocab = 1};

std::vector<float> read_rows(const ModelSource& source, const ParameterRows& rows, DType type) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(rows.elements() * size_of(type)));
  source.read(rows, type, bytes);
  std::vector<float> values(static_cast<std::size_t>(rows.elements()));
  for (std::size_t i = 0; i < values.size(); ++i) {
    Bf16 narrow{};
    if (type == DType::fp32) {
      std::memcpy(&values[i], bytes.data() + 4 * i, 4);
    } else {
      std::memcpy(&narrow, bytes.data() + 2 * i, 2);
      values[i] = to_float(narrow);
    }
  }
  return values;
}

// All parameters, whole in both types, row by row, and a strip of rows from the middle. The values
// are such that no type rounds.
void expect_holds(const fs::path& path, const PlainModel& model) {
  const auto source = open_model(path, Weights::in_use);
  EXPECT_EQ(source->info().config, model.config);
  const auto specs = parameter_specs(model.config);
  EXPECT_EQ(specs.size(), model.parameters.size());
  for (const ParameterSpec& spec : specs) {
    SCOPED_TRACE(spec.name);
    const std::vector<float>& expected = model.parameters.at(spec.name);
    for (const DType type : {DType::fp32, DType::bf16}) {
      EXPECT_EQ(read_rows(*source, {&spec, 0, spec.shape[0]}, type), expected);
    }
    std::vector<float> by_rows;
    for (std::int64_t row = 0; row < spec.shape[0]; ++row) {
      const auto values = read_rows(*source, {&spec, row, 1}, DType::fp32);
      by_rows.insert(by_rows.end(), values.begin(), values.end());
    }
    EXPECT_EQ(by_rows, expected);
    if (spec.shape[0] < 3) continue;
    const auto row = std::ssize(expected) / spec.shape[0];
    EXPECT_EQ(read_rows(*source, {&spec, 1, 2}, DType::fp32),
              std::vector<float>(expected.begin() + row, expected.begin() + 3 * row));
  }
}

std::string open_error(const fs::path& path) {
  return error_of([&] { open_model(path, Weights::in_use); });
}

TEST(HuggingFace, EveryParameterIsInItsPlace) {
  const TempDir folder;
  int i = 0;
  for (const ModelConfig& config : {kOdd, kLeast}) {
    const PlainModel model = random_plain_model(config, 1);
    for (const HuggingFaceSpec& spec :
         {HuggingFaceSpec{}, HuggingFaceSpec{.prefix = "", .masks = true},
          HuggingFaceSpec{.type = "BF16", .masks = true, .head = true},
          HuggingFaceSpec{.type = "F16", .prefix = "", .head = true},
          HuggingFaceSpec{.type = "F32", .files = 3}}) {
      SCOPED_TRACE(i);
      const std::string path = folder / std::to_string(i++);
      write_hugging_face_folder(path, model, spec);
      expect_holds(path, model);
      const ModelInfo info = open_model(path, Weights::master)->info();
      EXPECT_EQ(info.format, ModelFormat::hugging_face);
      EXPECT_EQ(info.precision, spec.type == "BF16" ? "bf16" : "fp32");
      EXPECT_EQ(info.tokenizer, "none");
      EXPECT_EQ(info.end_of_text, config.vocab > 7 ? std::optional<std::int64_t>(7) : std::nullopt);
      EXPECT_EQ(info.remarks, std::vector<std::string>());
    }
  }
}

TEST(Llmc, EveryParameterIsInItsPlace) {
  const TempDir folder;
  for (const ModelConfig& config : {kOdd, kLeast}) {
    const PlainModel model = random_plain_model(config, 2);
    for (const LlmcSpec& spec :
         {LlmcSpec{}, LlmcSpec{.version = 5}, LlmcSpec{.padded_vocab = 61, .padding = 0},
          LlmcSpec{.version = 5, .padded_vocab = 100, .padding = 1}}) {
      const std::string path = folder.write("model", llmc_model_bytes(model, spec));
      expect_holds(path, model);
      const ModelInfo info = open_model(path, Weights::master)->info();
      EXPECT_EQ(info.format, ModelFormat::llmc);
      EXPECT_EQ(info.precision, spec.version == 5 ? "bf16" : "fp32");
    }
  }
}

// The four sizes of GPT-2, without their memory: names, shapes and counts.
TEST(HuggingFace, NamesAndShapesAreThoseOfGpt2) {
  struct Size {
    const char* name;
    ModelConfig config;
    std::int64_t parameters, padded_parameters;
  };
  for (const auto& [name, config, parameters, padded_parameters] :
       {Size{"gpt2", {12, 12, 768, 1024, 50257}, 124'439'808, 124'475'904},
        Size{"gpt2-medium", {24, 16, 1024, 1024, 50257}, 354'823'168, 354'871'296},
        Size{"gpt2-large", {36, 20, 1280, 1024, 50257}, 774'030'080, 774'090'240},
        Size{"gpt2-xl", {48, 25, 1600, 1024, 50257}, 1'557'611'200, 1'557'686'400}}) {
    ModelConfig preset = model_preset(name).value();
    preset.vocab = 50257;
    EXPECT_EQ(preset, config);
    std::map<std::string, HuggingFaceName> expected;
    for (const HuggingFaceName& tensor : hugging_face_names(config)) {
      expected.emplace(tensor.lathe, tensor);
    }
    std::int64_t count = 0;
    const auto specs = parameter_specs(config);
    for (const ParameterSpec& spec : specs) {
      ASSERT_TRUE(expected.contains(spec.name)) << spec.name;
      const HuggingFaceName& right = expected.at(spec.name);
      EXPECT_EQ(hugging_face_tensor(spec).name, right.theirs);
      EXPECT_EQ(hugging_face_tensor(spec).is_transposed, right.is_transposed) << right.theirs;
      EXPECT_EQ(hugging_face_shape(spec), right.shape) << right.theirs;
      count += std::accumulate(right.shape.begin(), right.shape.end(), std::int64_t{1},
                               std::multiplies<>());
    }
    EXPECT_EQ(specs.size(), expected.size());
    EXPECT_EQ(specs.size(), static_cast<std::size_t>(4 + 12 * config.layers));
    EXPECT_EQ(count, parameters);
    const LlmcHeader header{.type = DType::fp32, .model = config, .padded_vocab = 50304};
    const auto tensors = llmc_tensors(header, specs);
    EXPECT_EQ(tensors.size(), 16u);
    EXPECT_EQ(tensors.back().end, static_cast<std::uint64_t>(1024 + 4 * padded_parameters));
  }
}

TEST(HuggingFaceConfig, FollowsWhatItUnderstands) {
  json config = hugging_face_config(kOdd);
  const auto parse = [&] { return parse_hugging_face_config(config.dump(), "config.json"); };
  EXPECT_EQ(parse().model, kOdd);
  EXPECT_TRUE(parse().ties_head);
  config.update({{"n_inner", 84},
                 {"activation_function", "gelu_pytorch_tanh"},
                 {"tie_word_embeddings", false},
                 {"reorder_and_upcast_attn", true},
                 {"eos_token_id", {1, 2}},
                 {"of the future", {{"a", nullptr}}},
                 {"attn_pdrop", 0.1},
                 {"embd_pdrop", 0.0},
                 {"resid_pdrop", 0.5}});
  EXPECT_FALSE(parse().ties_head);
  EXPECT_EQ(parse().end_of_text, std::nullopt);
  EXPECT_EQ(parse().remarks,
            std::vector<std::string>{"config.json: dropout is ignored, Lathe trains without: "
                                     "attn_pdrop 0.1, resid_pdrop 0.5"});
  for (const json& token : {json(nullptr), json(61), json(-1), json("x")}) {
    config["eos_token_id"] = token;
    EXPECT_EQ(parse().end_of_text, std::nullopt) << token;
  }
}

TEST(HuggingFaceConfig, RefusesWhatWouldBeAnotherModel) {
  struct Change {
    std::string key;
    json value;
    std::string message;
  };
  const std::vector<Change> changes = {
      {"model_type", "gpt_neo", R"("model_type" is "gpt_neo", Lathe's GPT-2 needs "gpt2")"},
      {"model_type", nullptr, R"(has no "model_type")"},
      {"activation_function", "relu",
       R"("activation_function" is "relu", Lathe's GPT-2 needs "gelu_new")"},
      {"activation_function", "gelu",
       R"("activation_function" is "gelu", Lathe's GPT-2 needs "gelu_new")"},
      {"n_inner", 85, R"("n_inner" is "85", Lathe's GPT-2 needs "84")"},
      {"layer_norm_epsilon", 1e-6,
       R"("layer_norm_epsilon" is "1e-06", Lathe's GPT-2 needs "1e-05")"},
      {"scale_attn_weights", false,
       R"("scale_attn_weights" is "false", Lathe's GPT-2 needs "true")"},
      {"scale_attn_by_inverse_layer_idx", true,
       R"("scale_attn_by_inverse_layer_idx" is "true", Lathe's GPT-2 needs "false")"},
      {"add_cross_attention", true,
       R"("add_cross_attention" is "true", Lathe's GPT-2 needs "false")"},
      {"pruned_heads",
       {{"0", {1}}},
       R"("pruned_heads" is "{\"0\":[1]}", Lathe's GPT-2 needs "{}")"},
      {"quantization_config",
       {{"bits", 4}},
       R"("quantization_config": Lathe reads no quantised weights)"},
      {"n_layer", nullptr, R"(has no "n_layer")"},
      {"n_layer", "12", R"("n_layer" is "12", must be a whole number)"},
      {"n_layer", 1.5, R"("n_layer" is "1.5", must be a whole number)"},
      {"n_layer", ~std::uint64_t{0},
       R"("n_layer" is "18446744073709551615", must be a whole number)"},
      {"n_layer", 0, "n_layer 0: must be between 1 and 1000"},
      {"n_embd", -1, "n_embd -1: must be between 1 and 65536"},
      {"n_positions", 1 << 21, "n_positions 2097152: must be between 1 and 1048576"},
      {"vocab_size", 1 << 21, "vocab_size 2097152: must be between 1 and 1048576"},
      {"n_head", 2, "n_head 2: does not divide n_embd 21; 1, 3, 7, 21 would"},
  };
  for (const auto& [key, value, message] : changes) {
    json config = hugging_face_config(kOdd);
    config[key] = value;
    EXPECT_EQ(error_of([&, &text = config] { parse_hugging_face_config(text.dump(), "c.json"); }),
              "exit 4: c.json: " + message);
  }
  EXPECT_EQ(error_of([] { parse_hugging_face_config("[]", "c.json"); }),
            "exit 4: c.json: must be a JSON object");
  EXPECT_EQ(error_of([] { parse_hugging_face_config("{", "c.json"); }),
            "exit 4: c.json: not valid JSON at byte 2");
}

class HuggingFaceFolder : public testing::Test {
 protected:
  HuggingFaceFolder() { write_hugging_face_folder(path_, model_, {}); }

  // Writes the folder anew with `text` in the header of its safetensors in place of what was there.
  std::string error_with(const std::string& before, const std::string& text,
                         const HuggingFaceSpec& spec = {}) {
    write_hugging_face_folder(path_, model_, spec);
    std::string bytes = read_file(path_ + "/model.safetensors");
    const std::size_t at = bytes.find(before);
    EXPECT_NE(at, bytes.npos) << before;
    bytes.replace(at, before.size(), text);
    folder_.write("model/model.safetensors", bytes);
    return open_error(path_);
  }

  const TempDir folder_;
  const PlainModel model_ = random_plain_model(kOdd, 3);
  const std::string path_ = folder_ / "model";
  const std::string file_ = "exit 4: " + path_ + "/model.safetensors: ";
};

TEST_F(HuggingFaceFolder, RefusesTensorsOfAnotherModel) {
  EXPECT_EQ(error_with("h.1.ln_1.bias", "h.1.ln_9.bias"),
            "exit 4: " + path_ + R"(: has no tensor "transformer.h.1.ln_1.bias")");
  EXPECT_EQ(error_with("h.1.attn.bias", "h.2.attn.bias", {.masks = true}),
            file_ + R"(tensor "transformer.h.2.attn.bias" belongs to no part of the model)");
  EXPECT_EQ(error_with("[21,63]", "[63,21]"),
            file_ + R"(tensor "transformer.h.0.attn.c_attn.weight" is (63, 21), config.json makes )"
                    "it (21, 63)");
  EXPECT_EQ(
      error_with(R"("dtype":"F32")", R"("dtype":"I32")"),
      file_ + R"(tensor "transformer.h.0.attn.c_attn.bias" is I32, must be F32, BF16 or F16)");
}

TEST_F(HuggingFaceFolder, RefusesAHeadOfItsOwn) {
  write_hugging_face_folder(path_, model_, {.head = true});
  std::string bytes = read_file(path_ + "/model.safetensors");
  std::uint64_t header = 0;
  std::memcpy(&header, bytes.data(), 8);
  // lm_head stands first; its last byte.
  bytes[8 + header + 61 * 21 * 4 - 1] ^= 1;
  folder_.write("model/model.safetensors", bytes);
  EXPECT_EQ(open_error(path_), file_ +
                                   R"(tensor "lm_head.weight" is not "transformer.wte.weight": )"
                                   "Lathe's output head is the token embedding");
  json config = hugging_face_config(kOdd);
  config["tie_word_embeddings"] = false;
  write_hugging_face_folder(path_, model_, {});
  folder_.write("model/config.json", config.dump());
  EXPECT_EQ(open_error(path_), "exit 4: " + path_ +
                                   R"(/config.json: "tie_word_embeddings" is )"
                                   R"(false, and there is no "lm_head.weight")");
  write_hugging_face_folder(path_, model_, {.head = true});
  folder_.write("model/config.json", config.dump());
  EXPECT_EQ(open_error(path_), "");
}

TEST_F(HuggingFaceFolder, NamesWhatIsMissing) {
  fs::remove(path_ + "/model.safetensors");
  EXPECT_EQ(open_error(path_), "exit 4: " + path_ + ": has no model.safetensors");
  folder_.write("model/pytorch_model.bin", "x");
  EXPECT_EQ(open_error(path_),
            "exit 4: " + path_ +
                ": has pytorch_model.bin only; Lathe reads model.safetensors, which "
                "save_pretrained(..., safe_serialization=True) writes");
  EXPECT_EQ(open_error(folder_ / "none"),
            "exit 4: " + (folder_ / "none") + ": no such file or folder");
  folder_.write("model/config.json", std::string((1 << 20) + 1, ' '));
  EXPECT_EQ(open_error(path_),
            "exit 4: " + path_ + "/config.json: 1048577 bytes, must be at most 1048576");
}

TEST_F(HuggingFaceFolder, RefusesAnIndexThatIsWrong) {
  fs::remove(path_ + "/model.safetensors");
  const std::string index = "model/model.safetensors.index.json";
  const auto error = [&](const std::string& text) {
    return open_error(fs::path(folder_.write(index, text)).parent_path());
  };
  const std::string name = "exit 4: " + path_ + "/model.safetensors.index.json: ";
  EXPECT_EQ(error("{}"), name + R"(must be an object with a "weight_map" from tensors to files)");
  for (const char* file : {R"("../x.safetensors")", "7", R"("x.bin")"}) {
    EXPECT_EQ(error(R"({"weight_map":{"a":)" + std::string(file) + "}}"),
              name + R"(tensor "a" must be in a .safetensors file of this folder)");
  }
  EXPECT_EQ(error(R"({"weight_map":{"a":"b.safetensors"}})"),
            "exit 4: " + path_ + "/b.safetensors: cannot open: No such file or directory");
  write_hugging_face_folder(path_, model_, {.files = 2});
  fs::remove(path_ + "/model.safetensors");
  EXPECT_EQ(
      error(R"({"weight_map":{"transformer.wpe.weight":"model-0.safetensors",)"
            R"("a":"model-0.safetensors"}})"),
      "exit 4: " + path_ +
          R"(/model-0.safetensors: has no tensor "a", model.safetensors.index.json says it has)");
  fs::copy_file(path_ + "/model-0.safetensors", path_ + "/model-2.safetensors");
  const std::string twice =
      error(R"({"weight_map":{"transformer.h.0.attn.c_attn.bias":"model-0.safetensors",)"
            R"("transformer.h.0.attn.c_proj.bias":"model-2.safetensors"}})");
  EXPECT_EQ(twice, "exit 4: " + path_ +
                       R"(/model-2.safetensors: tensor "transformer.h.0.attn.c_attn.bias" is in )"
                       "another file too");
}

TEST(Llmc, RefusesWhatItDoesNotUnderstand) {
  const TempDir folder;
  const PlainModel model = random_plain_model(kOdd, 4);
  const std::string good = llmc_model_bytes(model, {});
  const auto error = [&](std::size_t word, std::int32_t value) {
    std::string bytes = good;
    std::memcpy(bytes.data() + 4 * word, &value, 4);
    const std::string path = folder.write("model.bin", bytes);
    return error_of([&] { open_llmc_model(path); }).substr(10 + path.size());
  };
  EXPECT_EQ(error(0, 20240520),
            "byte 0: magic number 20240520, that of llm.c's models is 20240326");
  EXPECT_EQ(error(1, 4), "byte 4: version 4, must be 3 (fp32) or 5 (bf16)");
  EXPECT_EQ(error(2, 0), "byte 8: positions 0: must be between 1 and 1048576");
  EXPECT_EQ(error(3, -1), "byte 12: vocabulary -1: must be between 1 and 1048576");
  EXPECT_EQ(error(4, 2'000'000'000), "byte 16: layers 2000000000: must be between 1 and 1000");
  EXPECT_EQ(error(5, 2),
            "byte 20: heads 2: does not divide byte 24: channels 21; 1, 3, 7, 21 would");
  EXPECT_EQ(error(7, 60),
            "byte 28: padded vocabulary 60, must be between the vocabulary, 61, and 1048576");
  const std::string size = std::to_string(good.size());
  EXPECT_EQ(error(7, 127),
            size + " bytes, its header makes it " + std::to_string(good.size() - 84));
  EXPECT_EQ(error(1, 5), size + " bytes, its header makes it " +
                             std::to_string(1024 + (good.size() - 1024) / 2));
  for (const std::size_t length :
       {std::size_t{0}, std::size_t{1023}, std::size_t{1024}, good.size() - 1}) {
    const std::string path = folder.write("model.bin", good.substr(0, length));
    const std::string message = error_of([&] { open_llmc_model(path); });
    EXPECT_TRUE(message.starts_with("exit 4: " + path + ": " + std::to_string(length) + " bytes, "))
        << message;
  }
  EXPECT_EQ(open_error(folder.write("model.bin", good + "x")).substr(0, 6), "exit 4");
}

// A safetensors file with `before` in its header replaced by `after`.
std::string with_header(const std::string& file, const std::string& before,
                        const std::string& after) {
  std::uint64_t length = 0;
  std::memcpy(&length, file.data(), 8);
  std::string header = file.substr(8, length);
  const std::string tensors = file.substr(8 + length);
  const std::size_t at = header.find(before);
  EXPECT_NE(at, header.npos) << before;
  if (at != header.npos) header.replace(at, before.size(), after);
  std::string bytes(8, '\0');
  length = header.size();
  std::memcpy(bytes.data(), &length, 8);
  return bytes + header + tensors;
}

TEST(LatheModelFile, RefusesWhatItDoesNotUnderstand) {
  const TempDir folder;
  write_hugging_face_folder(folder / "hf", random_plain_model(kOdd, 5), {});
  const std::string theirs = folder / "hf/model.safetensors";
  EXPECT_EQ(open_error(theirs), "exit 4: " + theirs +
                                    ": not written by Lathe; of a Hugging Face model name the "
                                    "folder");
  EXPECT_EQ(open_error(folder.write("empty", "")).substr(0, 6), "exit 4");

  const std::string path = folder / "model.safetensors";
  write_lathe_model(*open_model(folder / "hf", Weights::in_use), DType::fp32, path);
  const std::string good = read_file(path);
  EXPECT_EQ(open_error(path), "");
  EXPECT_EQ(open_model(path, Weights::in_use)->info().end_of_text, 7);
  struct Change {
    std::string before, after, message;
  };
  const std::string no_model = "no model of Lathe: its metadata has no ";
  const std::vector<Change> changes = {
      {R"("format":"lathe",)", "", no_model + R"("format")"},
      {R"("precision":"fp32",)", "", no_model + R"("precision")"},
      {R"("tokenizer":"none",)", "", no_model + R"("tokenizer")"},
      {R"("layers":"2",)", "", no_model + R"("layers")"},
      {R"("fp32")", R"("fp16")", R"(metadata "precision" must be fp32 or bf16)"},
      {R"("layers":"2")", R"("layers":"2 ")", R"(metadata "layers" must be a whole number)"},
      {R"("layers":"2")", R"("layers":"2x")", R"(metadata "layers" must be a whole number)"},
      {R"("layers":"2")", R"("layers":"")", R"(metadata "layers" must be a whole number)"},
      {R"("layers":"2")", R"("layers":"99999999999999999999")",
       R"(metadata "layers" must be a whole number)"},
      {R"("layers":"2")", R"("layers":"-2")", "metadata layers -2: must be between 1 and 1000"},
      {R"("vocab":"61")", R"("vocab":"1048577")",
       "metadata vocab 1048577: must be between 1 and 1048576"},
      {R"("heads":"3")", R"("heads":"2")",
       "metadata heads 2: does not divide channels 21; 1, 3, 7, 21 would"},
      {R"("end_of_text":"7")", R"("end_of_text":"-1")",
       R"(metadata "end_of_text" is -1, must be a token from 0 to 60)"},
      {R"("end_of_text":"7")", R"("end_of_text":"61")",
       R"(metadata "end_of_text" is 61, must be a token from 0 to 60)"},
      {R"("end_of_text":"7")", R"("end_of_text":"7.0")",
       R"(metadata "end_of_text" must be a whole number)"},
      {R"("final_ln.bias")", R"("final_ln.bios")", R"(has no tensor "final_ln.bias")"},
      {"[63,21]", "[21,63]",
       R"(tensor "blocks.0.attention.qkv.weight" is (21, 63), the model's is (63, 21))"},
      {R"("dtype":"F32")", R"("dtype":"I32")",
       R"(tensor "token_embedding.weight" is I32, must be F32, BF16 or F16)"},
  };
  const std::string start = "exit 4: " + path + ": ";
  for (const auto& [before, after, message] : changes) {
    folder.write("model.safetensors", with_header(good, before, after));
    EXPECT_EQ(open_error(path), start + message);
  }
  for (const char* token : {R"("end_of_text":"0")", R"("end_of_text":"60")"}) {
    folder.write("model.safetensors", with_header(good, R"("end_of_text":"7")", token));
    EXPECT_EQ(open_error(path), "") << token;
  }
}

TEST(Fp16, EveryValueIsExact) {
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const float actual = to_float(Fp16{static_cast<std::uint16_t>(bits)});
    const int exponent = static_cast<int>(bits >> 10 & 31),
              mantissa = static_cast<int>(bits & 1023);
    EXPECT_EQ(std::signbit(actual), bits >= 32768);
    if (exponent == 31) {
      EXPECT_EQ(std::isnan(actual), mantissa != 0);
      EXPECT_EQ(std::isinf(actual), mantissa == 0);
    } else {
      const double magnitude =
          exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
      EXPECT_EQ(std::abs(actual), magnitude) << bits;
    }
  }
}

// PyTorch's ten steps in float64 (golden_test.cpp), from a folder of Hugging Face and a file of
// llm.c: what comes in is the model that PyTorch trained.
TEST(Import, TrainsOnAsPyTorchDoes) {
  const TempDir folder;
  for (const char* name : {"odd", "deep"}) {
    const GoldenCase golden =
        read_golden(std::string(LATHE_GOLDEN_DIR "/") + name + ".safetensors");
    const PlainModel plain{.config = golden.config, .parameters = golden.initial};
    const std::string path = folder / name;
    write_hugging_face_folder(path, plain, {});
    for (const std::string& file : {path, folder.write("model.bin", llmc_model_bytes(plain, {}))}) {
      SCOPED_TRACE(file);
      TestModel model({.config = golden.config,
                       .options = {.micro_batch = golden.rows,
                                   .seq_len = golden.seq_len,
                                   .precision = DType::fp32,
                                   .recompute = Recompute::none,
                                   .training = true},
                       .adamw = golden.adamw});
      initialize_from(*open_model(file, Weights::master), model.backend(), model.model(),
                      model.adamw());
      for (std::int64_t step = 0; step < golden.steps(); ++step) {
        const auto at = static_cast<std::size_t>(step);
        EXPECT_NEAR(model.forward_backward(golden.batch(step, 0, golden.rows)), golden.losses[at],
                    1e-5);
        model.update(step + 1, golden.learning_rates[at]);
      }
    }
  }
}

}  // namespace
}  // namespace lathe::test
