// lathe convert, --init-from and --checkpoint with models of every kind: bits come through, nothing
// is replaced or left half-written, and a run takes over the sizes of what it starts from.
#include <gtest/gtest.h>

#include <bit>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <set>
#include <utility>

#include "lathe/bf16.h"
#include "lathe/checkpoint.h"
#include "lathe/commands.h"
#include "lathe/model_files.h"
#include "lathe/safetensors.h"
#include "support/compare.h"
#include "support/error_of.h"
#include "support/file_size_limit.h"
#include "support/golden.h"
#include "support/host_backend.h"
#include "support/plain_model.h"
#include "support/reference.h"
#include "support/sample_checkpoint.h"
#include "support/temp_dir.h"

namespace lathe::test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr ModelConfig kOdd = {.layers = 2, .heads = 3, .channels = 21, .context = 13, .vocab = 61};

// A value of every kind that a careless copy would change, in every parameter that has room.
PlainModel peculiar_model() {
  PlainModel model = random_plain_model(kOdd, 1);
  const std::vector<float> peculiar = {-0.0f, std::numeric_limits<float>::infinity(),
                                       std::bit_cast<float>(0x7fc10000u),  // NaN with a payload
                                       std::bit_cast<float>(0xff810000u),  // a signalling one
                                       0x1p-133f};                         // a subnormal
  for (auto& [name, values] : model.parameters)
    std::copy(peculiar.begin(), peculiar.end(), values.begin());
  return model;
}

class Convert : public testing::Test {
 protected:
  std::string at(const std::string& name) const { return folder_ / name; }
  std::string file(const std::string& name) const { return read_file(at(name)); }

  // Runs `lathe convert FROM --out TO ...`; "" or what went wrong. Keeps what was said.
  std::string convert(const std::string& from, const std::string& to,
                      std::vector<std::string> options = {}) {
    std::vector<std::string> arguments = {at(from), "--out", at(to)};
    arguments.insert(arguments.end(), options.begin(), options.end());
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    const std::string error =
        error_of([&] { convert_command(parse_options(Command::convert, arguments, {})); });
    std::fflush(stdout);
    out_ = testing::internal::GetCapturedStdout();
    err_ = testing::internal::GetCapturedStderr();
    return error;
  }

  const TempDir folder_;
  std::string out_, err_;
};

TEST_F(Convert, KeepsEveryBit) {
  const PlainModel model = peculiar_model();
  for (const auto& [type, version] : {std::pair{"F32", 3}, std::pair{"BF16", 5}}) {
    SCOPED_TRACE(type);
    const std::string t = type;
    write_hugging_face_folder(at(t + "/hf"), model, {.type = type});
    folder_.write(t + "/llmc.bin", llmc_model_bytes(model, {.version = version}));
    // Hugging Face and llm.c, there and back by way of Lathe, and by way of each other.
    ASSERT_EQ(convert(t + "/hf", t + "/a.safetensors"), "");
    ASSERT_EQ(convert(t + "/a.safetensors", t + "/a"), "");
    EXPECT_TRUE(file(t + "/a/model.safetensors") == file(t + "/hf/model.safetensors"));
    ASSERT_EQ(convert(t + "/llmc.bin", t + "/b.safetensors"), "");
    ASSERT_EQ(convert(t + "/b.safetensors", t + "/b.bin"), "");
    EXPECT_TRUE(file(t + "/b.bin") == file(t + "/llmc.bin"));
    ASSERT_EQ(convert(t + "/hf", t + "/c.bin"), "");
    EXPECT_TRUE(file(t + "/c.bin") == file(t + "/llmc.bin"));
    ASSERT_EQ(convert(t + "/c.bin", t + "/d"), "");
    EXPECT_TRUE(file(t + "/d/model.safetensors") == file(t + "/hf/model.safetensors"));
  }
}

TEST_F(Convert, MakesOneFolderOfSeveralFilesAndAnyTypes) {
  const PlainModel model = random_plain_model(kOdd, 2);
  write_hugging_face_folder(at("plain"), model, {});
  write_hugging_face_folder(at("many"), model,
                            {.prefix = "", .masks = true, .head = true, .files = 4});
  write_hugging_face_folder(at("half"), model, {.type = "F16"});
  write_hugging_face_folder(at("bf16"), model, {.type = "BF16"});
  for (const std::string from : {"many", "half", "bf16"}) {
    ASSERT_EQ(convert(from, from + "-out", {"--precision=fp32"}), "");
    EXPECT_TRUE(file(from + "-out/model.safetensors") == file("plain/model.safetensors")) << from;
  }
  ASSERT_EQ(convert("plain", "narrow", {"--precision=bf16"}), "");
  EXPECT_TRUE(file("narrow/model.safetensors") == file("bf16/model.safetensors"));
}

TEST_F(Convert, RoundsToNearestEven) {
  PlainModel model = random_plain_model(kOdd, 3);
  auto& values = model.parameters.at("final_ln.bias");
  values[0] = 0x1.01p0f;      // a tie, down to even
  values[1] = 0x1.03p0f;      // a tie, up
  values[2] = 0x1.010002p0f;  // above a tie
  write_hugging_face_folder(at("hf"), model, {});
  ASSERT_EQ(convert("hf", "a.bin", {"--precision=bf16"}), "");
  const std::string bytes = file("a.bin");
  const std::string last = bytes.substr(bytes.size() - 42, 6);
  EXPECT_EQ(last, element_bytes({0x1.00p0f, 0x1.04p0f, 0x1.02p0f}, "BF16"));
}

TEST_F(Convert, WritesWhatTransformersReads) {
  write_hugging_face_folder(at("hf"), random_plain_model(kOdd, 4), {});
  folder_.write("hf/vocab.json", "{}");
  folder_.write("hf/merges.txt", "#version: 0.2\n");
  folder_.write("hf/README.md", "not a part of the model");
  ASSERT_EQ(convert("hf", "out/"), "");
  EXPECT_EQ(err_, "");
  EXPECT_TRUE(out_.starts_with(at("out") + ": Hugging Face GPT-2, fp32, 12726 parameters, from " +
                               at("hf") + " in fp32, "))
      << out_;
  EXPECT_EQ(file("out/vocab.json"), "{}");
  EXPECT_EQ(file("out/merges.txt"), "#version: 0.2\n");
  EXPECT_FALSE(fs::exists(at("out/README.md")));
  const json config = parse_json(file("out/config.json"));
  const auto given = hugging_face_config(kOdd);
  for (const auto& [key, value] : given.items()) {
    EXPECT_EQ(config.at(key), json(value)) << key;
  }
  EXPECT_EQ(config.at("torch_dtype"), "float32");
  EXPECT_EQ(config.at("tie_word_embeddings"), true);
  EXPECT_EQ(config.at("resid_pdrop"), 0.0);
  EXPECT_EQ(parse_json(file("out/generation_config.json")).at("eos_token_id"), 7);
  // The end of a text outlives Lathe's own file; the tokenizer stays where it is.
  ASSERT_EQ(convert("out", "a.safetensors"), "");
  const ModelInfo info = open_model(at("a.safetensors"), Weights::in_use)->info();
  EXPECT_EQ(info.end_of_text, 7);
  EXPECT_EQ(info.tokenizer, at("out"));
  // Without any tokenizer that is said.
  write_hugging_face_folder(at("bare"), random_plain_model(kOdd, 4), {});
  ASSERT_EQ(convert("bare", "bare-out"), "");
  EXPECT_EQ(err_, "lathe: without tokenizer files: " + at("bare") +
                      " does not say what its tokens are\n");
}

TEST_F(Convert, SaysThatDropoutIsIgnored) {
  write_hugging_face_folder(at("hf"), random_plain_model(kOdd, 4), {});
  json config = hugging_face_config(kOdd);
  config["resid_pdrop"] = 0.1;
  folder_.write("hf/config.json", config.dump());
  ASSERT_EQ(convert("hf", "a.bin"), "");
  EXPECT_EQ(err_, "lathe: " + at("hf/config.json") +
                      ": dropout is ignored, Lathe trains without: resid_pdrop 0.1\n");
}

TEST_F(Convert, TakesTheMasterWeightsWhereFp32IsAskedFor) {
  HostBackend backend;
  SampleCheckpoint sample(DType::bf16, 1);
  save_checkpoint(at("run"), backend, sample.data(2));
  const std::string checkpoint = at("run") + "/checkpoints/step-00000002";
  ASSERT_EQ(convert("run", "narrow.safetensors"), "");
  EXPECT_EQ(file("narrow.safetensors"), read_file(checkpoint + "/model.safetensors"));
  ASSERT_EQ(convert("run", "wide.safetensors", {"--precision=fp32"}), "");
  const SafetensorsReader wide(at("wide.safetensors"), ExitCode::internal);
  const SafetensorsReader masters(checkpoint + "/optimizer.safetensors", ExitCode::internal);
  EXPECT_EQ(wide.tensors().size(), 16u);
  for (const TensorInfo& tensor : wide.tensors()) {
    const TensorInfo* master = masters.find("master." + tensor.name);
    ASSERT_NE(master, nullptr) << tensor.name;
    std::vector<std::byte> found(tensor.end - tensor.begin), expected(found.size());
    wide.read(tensor, 0, found);
    masters.read(*master, 0, expected);
    EXPECT_TRUE(same_bits(found, expected)) << tensor.name;
  }
}

TEST_F(Convert, ReplacesNothingUnasked) {
  write_hugging_face_folder(at("hf"), random_plain_model(kOdd, 5), {});
  folder_.write("a.bin", "mine");
  folder_.write("other/notes.txt", "mine");
  fs::create_directory(at("empty"));
  EXPECT_EQ(convert("hf", "a.bin"),
            "exit 2: --out " + at("a.bin") + ": exists; --overwrite replaces it");
  EXPECT_EQ(convert("hf", "other"),
            "exit 2: --out " + at("other") + ": exists; --overwrite replaces it");
  EXPECT_EQ(convert("hf", "other", {"--overwrite"}),
            "exit 2: --out " + at("other") +
                ": holds other files than a model's (notes.txt); --overwrite does not remove them");
  EXPECT_EQ(convert("hf", "other", {"--to=llmc", "--overwrite"}),
            "exit 2: --out " + at("other") + ": is a folder, the model is a file");
  EXPECT_EQ(convert("hf", "a.bin", {"--to=hf", "--overwrite"}),
            "exit 2: --out " + at("a.bin") + ": is a file, the model is a folder");
  EXPECT_EQ(file("a.bin"), "mine");
  EXPECT_EQ(file("other/notes.txt"), "mine");
  EXPECT_EQ(convert("hf", "empty"), "");
  EXPECT_EQ(convert("hf", "a.bin", {"--overwrite"}),
            "exit 2: --out " + at("a.bin") + ": is no model; --overwrite does not replace it");
  fs::remove(at("a.bin"));
  EXPECT_EQ(convert("hf", "a.bin"), "");
  EXPECT_EQ(convert("hf", "a.bin", {"--overwrite"}), "");
  EXPECT_GT(file("a.bin").size(), 1024u);
  folder_.write("empty/added_tokens.json", "{}");
  EXPECT_EQ(convert("hf", "empty", {"--overwrite"}), "");
  EXPECT_FALSE(fs::exists(at("empty/added_tokens.json")));
  EXPECT_EQ(convert("hf", "made/on/the/way.bin"), "");
  EXPECT_EQ(convert("hf", "weights", {"--to=lathe"}), "");
  EXPECT_EQ(open_model(at("weights"), Weights::in_use)->info().format, ModelFormat::lathe);
  EXPECT_EQ(
      error_of([&] { parse_options(Command::convert, std::vector<std::string>{at("hf")}, {}); }),
      "exit 2: --out: lathe convert needs it; see lathe convert --help");
  EXPECT_EQ(convert("none", "b.bin"), "exit 4: " + at("none") + ": no such file or folder");
  // A model onto itself.
  EXPECT_EQ(convert("hf", "hf", {"--overwrite", "--precision=bf16"}), "");
  EXPECT_EQ(open_model(at("hf"), Weights::in_use)->info().precision, "bf16");
}

std::set<std::string> names_in(const fs::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) {
    names.insert(entry.path().filename().string());
  }
  return names;
}

// Many programs have a file that is called config.json.
TEST_F(Convert, RemovesNoFileThatIsNotOfAModel) {
  write_hugging_face_folder(at("hf"), random_plain_model(kOdd, 5), {});
  const auto error = [&](const std::string& out) {
    const std::string message = convert("hf", out, {"--overwrite"});
    return message.substr(0, message.find("; --overwrite"));
  };
  const auto holds = [&](const std::string& out, const std::string& name) {
    return "exit 2: --out " + at(out) + ": holds other files than a model's (" + name + ")";
  };
  folder_.write("project/config.json", "{}");
  folder_.write("project/src/main.c", "mine");
  folder_.write("project/thesis.txt", "mine");
  EXPECT_EQ(error("project"), holds("project", "src"));
  fs::remove_all(at("project/src"));
  EXPECT_EQ(error("project/"), holds("project", "thesis.txt"));
  fs::remove(at("project/thesis.txt"));
  const std::string no_model =
      "exit 2: --out " + at("project") + ": holds no model of Hugging Face";
  EXPECT_EQ(error("project"), no_model);
  folder_.write("project/config.json", "mine");
  EXPECT_EQ(error("project"), no_model);
  EXPECT_EQ(names_in(at("project")), std::set<std::string>{"config.json"});
  write_hugging_face_folder(at("model"), random_plain_model(kOdd, 6), {});
  for (const std::string name :
       {"vocab.json/", "model-1-of-2.txt", "model-00001-of-2", "model-a-of-b.safetensors",
        "optimizer.safetensors", ".hidden", "pytorch_model.bin", "README.md"}) {
    folder_.write("model/" + name + (name.back() == '/' ? "mine" : ""), "mine");
    const std::string entry = name.back() == '/' ? name.substr(0, name.size() - 1) : name;
    EXPECT_EQ(error("model"), holds("model", entry));
    fs::remove_all(at("model/" + entry));
  }
  for (const char* name : {"model-00001-of-00002.safetensors", "model.safetensors.index.json",
                           "generation_config.json", "vocab.json", "merges.txt", "tokenizer.json",
                           "tokenizer_config.json", "special_tokens_map.json"}) {
    folder_.write("model/" + std::string(name), "");
  }
  EXPECT_EQ(error("model"), "");
  EXPECT_EQ(names_in(at("model")),
            (std::set<std::string>{"config.json", "generation_config.json", "model.safetensors"}));
}

// The folder stays the one it was: someone may stand in it.
TEST_F(Convert, FillsAnEmptyFolderHoweverItIsNamed) {
  write_hugging_face_folder(at("hf"), random_plain_model(kOdd, 5), {});
  folder_.write("hf/vocab.json", "{}");
  folder_.write("hf/merges.txt", "");
  const fs::path before = fs::current_path();
  for (const std::string name : {".", "./", "../here", "../here/."}) {
    fs::create_directory(at("here"));
    fs::current_path(at("here"));
    const std::vector<std::string> arguments = {"../hf", "--out", name};
    testing::internal::CaptureStdout();
    EXPECT_EQ(error_of([&] { convert_command(parse_options(Command::convert, arguments, {})); }),
              "");
    std::fflush(stdout);
    testing::internal::GetCapturedStdout();
    EXPECT_EQ(names_in("."),
              (std::set<std::string>{"config.json", "generation_config.json", "merges.txt",
                                     "model.safetensors", "vocab.json"}));
    fs::current_path(before);
    EXPECT_EQ(open_model(at("here"), Weights::in_use)->info().config, kOdd);
    EXPECT_EQ(names_in(folder_.path()), (std::set<std::string>{"here", "hf"}));
    fs::remove_all(at("here"));
  }
}

TEST_F(Convert, NamesAMountPointBeforeItWrites) {
  write_hugging_face_folder(at("hf"), random_plain_model(kOdd, 5), {});
  const std::vector<std::string> arguments = {at("hf"), "--out", "/proc"};
  EXPECT_EQ(error_of([&] { convert_command(parse_options(Command::convert, arguments, {})); }),
            "exit 2: --out /proc: is where a file system is mounted, which cannot be replaced; "
            "name a folder in it");
}

// What a run leaves that is killed where names cannot change places.
TEST_F(Convert, PutsBackWhatAKilledRunMovedAside) {
  const PlainModel mine = random_plain_model(kOdd, 6);
  write_hugging_face_folder(at("hf"), random_plain_model(kOdd, 5), {});
  write_hugging_face_folder(at(".a.removed"), mine, {});
  EXPECT_EQ(convert("hf", "a"), "exit 2: --out " + at("a") + ": exists; --overwrite replaces it");
  EXPECT_EQ(names_in(folder_.path()), (std::set<std::string>{"a", "hf"}));
  write_hugging_face_folder(at("plain"), mine, {});
  EXPECT_TRUE(file("a/model.safetensors") == file("plain/model.safetensors"));
  // The new one has come as far as its name: what it replaced goes.
  fs::rename(at("plain"), at(".a.removed"));
  EXPECT_EQ(convert("hf", "a", {"--overwrite"}), "");
  EXPECT_TRUE(file("a/model.safetensors") == file("hf/model.safetensors"));
  EXPECT_EQ(names_in(folder_.path()), (std::set<std::string>{"a", "hf"}));
  // Someone else's folder of that name.
  folder_.write(".a.removed/thesis.txt", "mine");
  EXPECT_EQ(convert("hf", "a", {"--overwrite"}), "");
  EXPECT_EQ(file(".a.removed/thesis.txt"), "mine");
}

TEST_F(Convert, SaysThatATokenizersSettingsAreNoTokenizer) {
  write_hugging_face_folder(at("hf"), random_plain_model(kOdd, 4), {});
  folder_.write("hf/tokenizer_config.json", "{}");
  ASSERT_EQ(convert("hf", "out"), "");
  EXPECT_EQ(err_,
            "lathe: without tokenizer files: " + at("hf") + " does not say what its tokens are\n");
  EXPECT_EQ(file("out/tokenizer_config.json"), "{}");
}

TEST_F(Convert, KeepsTheTokensThatBeginAndEndATextApart) {
  write_hugging_face_folder(at("hf"), random_plain_model(kOdd, 4), {});
  json config = hugging_face_config(kOdd);
  const auto ends = [&](const std::string& name) {
    const json written = parse_json(file(name));
    return std::pair(written.value("bos_token_id", json()), written.value("eos_token_id", json()));
  };
  for (const auto& [bos, written] : std::vector<std::pair<json, json>>{{5, 5}, {0, 0}, {61, 7}}) {
    config["bos_token_id"] = bos;
    folder_.write("hf/config.json", config.dump());
    ASSERT_EQ(convert("hf", "out", {"--overwrite"}), "");
    EXPECT_EQ(ends("out/config.json"), std::pair(written, json(7))) << bos;
    EXPECT_EQ(ends("out/generation_config.json"), std::pair(written, json(7))) << bos;
  }
}

TEST_F(Convert, RefusesATokenizersPathThatNoHeaderCanHold) {
  const std::string folder = "h\xff";
  write_hugging_face_folder(at(folder), random_plain_model(kOdd, 4), {});
  folder_.write(folder + "/vocab.json", "{}");
  folder_.write(folder + "/merges.txt", "");
  EXPECT_EQ(convert(folder, "a.safetensors"), "exit 6: " + at(".a.safetensors.partial") +
                                                  ": metadata \"tokenizer\" is \"" +
                                                  at("h\\ufffd") + "\", must be UTF-8");
  EXPECT_FALSE(fs::exists(at("a.safetensors")));
}

TEST_F(Convert, LeavesNothingHalfWritten) {
  write_hugging_face_folder(at("hf"), random_plain_model(kOdd, 6), {});
  for (const char* name : {"a.bin", "a.safetensors", "a"}) {
    fs::create_directory(at("target"));
    std::string error;
    {
      const FileSizeLimit full(4000);
      error = convert("hf", "target/" + std::string(name));
    }
    EXPECT_TRUE(error.starts_with("exit 6: " + at("target"))) << error;
    EXPECT_TRUE(fs::is_empty(at("target"))) << name;
    fs::remove_all(at("target"));
  }
}

TEST(InitFrom, GivesARunItsSizes) {
  const TempDir folder;
  const std::string path = folder / "hf";
  write_hugging_face_folder(path, random_plain_model(kOdd, 7), {});
  const auto options_with = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), {"--init-from", path});
    Options options = parse_options(Command::train, arguments, {});
    open_initial_model(options);
    resolve(options);
    return options;
  };
  const Options options = options_with({});
  EXPECT_EQ(model_config(options), kOdd);
  EXPECT_EQ(options.seq_len, 13);
  EXPECT_EQ(model_config(options_with({"--layers=2", "--vocab=61", "--seq-len=5"})), kOdd);
  const auto error = [&](const char* argument) {
    return error_of([&] { options_with({argument}); });
  };
  const std::string has = "--init-from " + path + " has ";
  EXPECT_EQ(error("--layers=3"), "exit 2: --layers 3: " + has + "2");
  EXPECT_EQ(error("--vocab=60"), "exit 2: --vocab 60: " + has + "61");
  EXPECT_EQ(error("--context=12"), "exit 2: --context 12: " + has + "13");
  EXPECT_EQ(error("--model=gpt2"), "exit 2: --model gpt2: has 12 layers, " + has + "2");
  EXPECT_EQ(error("--seq-len=14"),
            "exit 2: --seq-len 14: must be at most the model's --context 13");
}

// A model whose file says something of its tokenizer, and no values.
class NamedModel final : public ModelSource {
 public:
  NamedModel(ModelInfo info, const std::string& tokenizer)
      : ModelSource(named(std::move(info), tokenizer)) {}
  void read(const ParameterRows&, DType, std::span<std::byte>) const override {}

 private:
  static ModelInfo named(ModelInfo info, const std::string& tokenizer) {
    info.tokenizer = tokenizer;
    return info;
  }
};

TEST(InitFrom, WantsTheTokenizerOfTheModel) {
  const TempDir folder;
  const std::string path = folder / "hf";
  write_hugging_face_folder(path, random_plain_model(kOdd, 7), {});
  const ModelInfo info = open_model(path, Weights::in_use)->info();
  const auto error = [&](const std::string& model, const std::string& data) {
    const InitialModel initial{.source = std::make_unique<NamedModel>(info, model),
                               .no_tokenizer = std::nullopt};
    TrainingData training;
    training.is_text = false;
    training.tokenizer_name = data;
    return error_of([&] { require_tokenizer(initial, training); });
  };
  EXPECT_EQ(error("none", "bytes"), "");
  EXPECT_EQ(error("gpt2", "none"), "");
  EXPECT_EQ(error("bytes", "bytes"), "");
  EXPECT_EQ(error("gpt2", "tokenizer"), "");
  EXPECT_EQ(
      error("gpt2", "bytes"),
      "exit 2: --init-from " + path +
          ": its tokens are those of gpt2, the data's of bytes; leave out --tokenizer, or give "
          "data of the model's tokens");
}

// Shards are trained on whatever the tokenizer of a model is; text needs it.
TEST(InitFrom, SaysWhyThereIsNoTokenizerForText) {
  const TempDir folder;
  const std::string path = folder / "hf";
  write_hugging_face_folder(path, random_plain_model(kOdd, 7), {});
  const auto error = [&](bool is_text, std::vector<std::string> more) {
    more.insert(more.end(), {"--init-from", path});
    Options options = parse_options(Command::train, more, {});
    const auto initial = open_initial_model(options);
    EXPECT_EQ(options.tokenizer, "bytes");
    TrainingData training;
    training.is_text = is_text;
    training.tokenizer_name = is_text ? "bytes" : "none";
    return error_of([&] { require_tokenizer(initial.value(), training); });
  };
  EXPECT_EQ(error(true, {}), "exit 2: --init-from " + path +
                                 ": does not say how text becomes its tokens; give --tokenizer, "
                                 "bytes where a token is a byte");
  EXPECT_EQ(error(true, {"--tokenizer=bytes"}), "");
  EXPECT_EQ(error(false, {}), "");
  folder.write("hf/tokenizer.json", "{");
  EXPECT_TRUE(error(true, {}).starts_with("exit 3: " + path + "/tokenizer.json: "))
      << error(true, {});
  EXPECT_EQ(error(false, {}), "");
}

// Logits after each token, given all tokens up to it.
std::vector<float> logits_of(const std::string& path, std::span<const std::int32_t> tokens) {
  Options options = default_options();
  options.checkpoint = path;
  options.device = "cpu";
  const auto source = open_model(path, Weights::in_use);
  LoadedModel loaded =
      load_model(options, *source, {.micro_batch = 1, .seq_len = source->info().config.context});
  std::vector<float> logits;
  for (std::size_t length = 1; length <= tokens.size(); ++length) {
    const auto next = loaded.model->next_token_logits(tokens.first(length));
    logits.insert(logits.end(), next.begin(), next.end());
  }
  return logits;
}

// The model that PyTorch computed these logits with, from a file of every kind.
TEST_F(Convert, EveryKindOfFileIsTheSameModel) {
  const GoldenCase golden = read_golden(LATHE_GOLDEN_DIR "/odd.safetensors");
  write_hugging_face_folder(at("hf"), {.config = golden.config, .parameters = golden.initial}, {});
  ASSERT_EQ(convert("hf", "a.bin"), "");
  ASSERT_EQ(convert("hf", "a.safetensors"), "");
  const auto first_row = std::span(golden.logits)
                             .first(static_cast<std::size_t>(golden.seq_len * golden.config.vocab));
  for (const char* name : {"hf", "a.bin", "a.safetensors"}) {
    const auto logits = logits_of(at(name), golden.batch(0, 0, 1).tokens);
    EXPECT_TRUE(near_each(logits, reference::widen({first_row.begin(), first_row.end()}), 1e-4, 0))
        << name;
  }
}

// tests/transformers_test.py runs this with a model and logits of transformers.
TEST(Transformers, LogitsAreTheSame) {
  const char* model = std::getenv("LATHE_TRANSFORMERS_MODEL");
  const char* expected = std::getenv("LATHE_TRANSFORMERS_LOGITS");
  if (model == nullptr || expected == nullptr) GTEST_SKIP() << "transformers_test.py runs it";
  const SafetensorsReader reader(expected, ExitCode::internal);
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(reader.find("tokens")->count()));
  std::vector<float> logits(static_cast<std::size_t>(reader.find("logits")->count()));
  reader.read(*reader.find("tokens"), 0, std::as_writable_bytes(std::span(tokens)));
  reader.read(*reader.find("logits"), 0, std::as_writable_bytes(std::span(logits)));
  ASSERT_GT(tokens.size(), 1u);
  EXPECT_TRUE(near_each(logits_of(model, tokens), reference::widen(logits), 1e-4, 0));
}

}  // namespace
}  // namespace lathe::test
