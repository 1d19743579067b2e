#include <gtest/gtest.h>

#include <bit>
#include <cmath>

#include "lathe/commands.h"
#include "support/error_of.h"
#include "support/host_backend.h"
#include "support/json.h"
#include "support/plain_model.h"
#include "support/sample_checkpoint.h"
#include "support/shards.h"
#include "support/temp_dir.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using test::TempDir;

struct Output {
  std::string text;   // on stdout
  std::string error;  // as error_of
};

Output inspect(const std::vector<std::string>& paths, bool as_json,
               const std::string& data_format = "auto") {
  Options options{};
  options.paths = paths;
  options.json = as_json;
  options.data_format = data_format;
  testing::internal::CaptureStdout();
  const std::string error = test::error_of([&] { inspect_command(options); });
  return {.text = testing::internal::GetCapturedStdout(), .error = error};
}

json facts_of(const std::string& path, const std::string& data_format = "auto") {
  const Output output = inspect({path}, true, data_format);
  EXPECT_EQ(output.error, "");
  return test::parse_json(output.text);
}

std::string save_checkpoint_of(const std::string& run, std::int64_t step) {
  test::HostBackend backend;
  test::SampleCheckpoint sample(DType::bf16, static_cast<std::uint32_t>(step));
  save_checkpoint(run, backend, sample.data(step));
  return run + "/checkpoints/step-0000000" + std::to_string(step);
}

constexpr const char* kMetrics =
    R"({"step":1,"train/loss":5.5,"train/lr":0.001,"train/grad_norm":2.0,"perf/tokens_per_second":10.0})"
    "\n"
    R"({"step":2,"train/loss":4.25,"train/lr":0.001,"train/grad_norm":2.0,"perf/tokens_per_second":10.0})"
    "\n"
    R"({"step":2,"val/loss":4.125})"
    "\n"
    R"({"step":2,"event":"resume"})"
    "\n"
    R"({"step":3,"train/loss":null,"train/lr":0.001,"train/grad_norm":null,"perf/tokens_per_second":10.0})"
    "\n"
    R"({"step":3,"val/loss":4.5})"
    "\n";

TEST(Inspect, GivesStatisticsOfEveryTensor) {
  const TempDir folder;
  test::HostBackend backend;
  const float nan = NAN;
  std::vector<float> a = {1e6f + 1, 1e6f + 2, 1e6f + 3, 1e6f + 4, nan, INFINITY, -INFINITY};
  std::vector<Bf16> b = {to_bf16(-2.0f), to_bf16(0.0f), to_bf16(2.0f)};
  std::vector<std::int32_t> c = {5, -5};
  std::vector<float> d = {nan};
  const std::string path = folder / "x.safetensors";
  write_safetensors(path, backend,
                    {{{"a", {7, 1}, Tensor(a.data(), DType::fp32, {7})},
                      {"b", {3}, Tensor(b.data(), DType::bf16, {3})},
                      {"c", {2}, Tensor(c.data(), DType::int32, {2})},
                      {"d", {1}, Tensor(d.data(), DType::fp32, {1})}}},
                    {{"precision", "fp32"}});
  const json facts = facts_of(path);
  EXPECT_EQ(facts["kind"], "safetensors");
  EXPECT_EQ(facts["elements"], 13);
  EXPECT_EQ(facts["metadata"], json({{"precision", "fp32"}}));
  const json& tensors = facts["tensors"];
  ASSERT_EQ(tensors.size(), 4u);
  EXPECT_EQ(tensors[0]["name"], "a");
  EXPECT_EQ(tensors[0]["type"], "F32");
  EXPECT_EQ(tensors[0]["shape"], json({7, 1}));
  EXPECT_EQ(tensors[0]["elements"], 7);
  EXPECT_EQ(tensors[0]["mean"], 1000002.5);
  EXPECT_NEAR(tensors[0]["std"].get<double>(), std::sqrt(1.25), 1e-12);
  EXPECT_EQ(tensors[0]["min"], 1000001.0);
  EXPECT_EQ(tensors[0]["max"], 1000004.0);
  EXPECT_EQ(tensors[0]["non_finite"], 3);
  EXPECT_EQ(tensors[1]["type"], "BF16");
  EXPECT_EQ(tensors[1]["mean"], 0.0);
  EXPECT_NEAR(tensors[1]["std"].get<double>(), std::sqrt(8.0 / 3), 1e-15);
  EXPECT_EQ(tensors[1]["non_finite"], 0);
  EXPECT_EQ(tensors[2]["min"], -5.0);
  EXPECT_EQ(tensors[2]["max"], 5.0);
  EXPECT_EQ(tensors[3]["mean"], nullptr);
  EXPECT_EQ(tensors[3]["max"], nullptr);
  EXPECT_EQ(tensors[3]["non_finite"], 1);
}

// Statistics must not stop at the first piece of a file.
TEST(Inspect, ReadsTensorsToTheirEnd) {
  const TempDir folder;
  test::HostBackend backend;
  std::vector<float> a((std::size_t{1} << 18) + 1);
  a.back() = 7.0f;
  const std::string path = folder / "x.safetensors";
  write_safetensors(path, backend,
                    {{{"a", {std::ssize(a)}, Tensor(a.data(), DType::fp32, {std::ssize(a)})}}}, {});
  EXPECT_EQ(facts_of(path)["tensors"][0]["max"], 7.0);
}

// A result.json may hold anything: rows that are not alike are no table.
TEST(Inspect, PrintsRowsThatAreNotAlikeAsTheyAre) {
  const TempDir folder;
  const auto is_printed = [&](const std::string& rows, const std::string& as) {
    const std::string path =
        folder.write("result.json", R"({"status":"x","exit_code":0,"a":[)" + rows + "]}");
    const Output output = inspect({path}, false);
    EXPECT_EQ(output.error, "");
    EXPECT_NE(output.text.find(as), std::string::npos) << output.text;
  };
  is_printed(R"({"x":1},{"u":"aaa","v":4,"w":3,"x":1,"y":2})",
             R"({"x":1}, {"u":"aaa","v":4,"w":3,"x":1,"y":2})");
  is_printed(R"({"x":1},5)", R"({"x":1}, 5)");
  is_printed(R"({"x":1},{"y":1})", R"({"x":1}, {"y":1})");
  is_printed(R"({"x":1,"y":2},{"x":3})", R"({"x":1,"y":2}, {"x":3})");
  is_printed("{},{}", "{}, {}");
  is_printed(R"({"x":1,"y":2},{"x":33,"y":4})", "\n   x  y\n   1  2\n  33  4\n");
}

TEST(Inspect, ExplainsACheckpoint) {
  const TempDir run;
  const std::string folder = save_checkpoint_of(run.path(), 5);
  const json facts = facts_of(folder);
  EXPECT_EQ(facts["kind"], "checkpoint");
  EXPECT_EQ(facts["precision"], "bf16");
  EXPECT_EQ(facts["model"],
            json({{"layers", 1}, {"heads", 1}, {"channels", 2}, {"context", 3}, {"vocab", 5}}));
  EXPECT_EQ(facts["state"]["step"], 5);
  EXPECT_EQ(facts["state"]["best_val_loss"], 1.0 / 3.0);
  EXPECT_EQ(facts["parameters"],
            parameter_count(parameter_specs(test::SampleCheckpoint::config())));
  EXPECT_EQ(facts["file_bytes"]["state.json"], fs::file_size(folder + "/state.json"));
  EXPECT_EQ(facts["tensors"].size(), 16u);
  json by_state_file = facts_of(folder + "/state.json");
  by_state_file["path"] = folder;
  EXPECT_EQ(by_state_file, facts);

  fs::resize_file(folder + "/model.safetensors", 99);
  const Output damaged = inspect({folder}, false);
  EXPECT_EQ(damaged.text, "");
  EXPECT_TRUE(damaged.error.starts_with("exit 4: " + folder + "/model.safetensors: 99 bytes, "))
      << damaged.error;
}

constexpr ModelConfig kOdd = {.layers = 2, .heads = 3, .channels = 21, .context = 13, .vocab = 61};

TEST(Inspect, ExplainsAModelOfHuggingFace) {
  const TempDir folder;
  const auto model = test::random_plain_model(kOdd, 1);
  const std::string path = folder / "hf";
  test::write_hugging_face_folder(path, model, {.type = "BF16", .prefix = "", .masks = true});
  folder.write("hf/merges.txt", "x");
  const json facts = facts_of(path);
  EXPECT_EQ(facts["kind"], "Hugging Face GPT-2");
  EXPECT_EQ(facts["precision"], "bf16");
  EXPECT_EQ(facts["tokenizer"], "none");
  EXPECT_EQ(facts["tokenizer_files"], json({"merges.txt"}));
  EXPECT_EQ(facts["end_of_text"], 7);
  EXPECT_EQ(facts["parameters"], 12726);
  EXPECT_EQ(facts["model"]["context"], 13);
  EXPECT_EQ(facts["file_bytes"]["model.safetensors"], fs::file_size(path + "/model.safetensors"));
  EXPECT_EQ(facts["tensors"].size(), 28u + 4u);
  const auto& values = model.parameters.at("final_ln.gain");
  const json& tensor = facts["tensors"][29];
  EXPECT_EQ(tensor["name"], "ln_f.weight");
  EXPECT_EQ(tensor["max"].get<float>(), *std::max_element(values.begin(), values.end()));
  json by_config = facts_of(path + "/config.json");
  by_config["path"] = path;
  EXPECT_EQ(by_config, facts);
  fs::resize_file(path + "/model.safetensors", 99);
  EXPECT_TRUE(inspect({path}, false).error.starts_with("exit 4: " + path + "/model.safetensors: "));
}

TEST(Inspect, ExplainsAModelOfLlmc) {
  const TempDir folder;
  const auto model = test::random_plain_model(kOdd, 2);
  for (const float padding : {0.0f, 1.0f}) {
    for (const char* name : {"a.bin", "model"}) {  // by magic number alone
      const json facts = facts_of(folder.write(
          name, test::llmc_model_bytes(model, {.padded_vocab = 100, .padding = padding})));
      EXPECT_EQ(facts["kind"], "llm.c model");
      EXPECT_EQ(facts["precision"], "fp32");
      EXPECT_EQ(facts["parameters"], 12726);
      EXPECT_EQ(facts["padded_vocab"], 100);
      EXPECT_EQ(facts["padding_is_zero"], padding == 0);
      ASSERT_EQ(facts["tensors"].size(), 16u);
      EXPECT_EQ(facts["tensors"][0]["shape"], json({100, 21}));
      EXPECT_EQ(facts["tensors"][0]["elements"], 61 * 21);
      EXPECT_EQ(facts["tensors"][4]["name"], "qkvw");
      EXPECT_EQ(facts["tensors"][4]["shape"], json({2, 63, 21}));
      double least = INFINITY;
      for (const char* block : {"blocks.0.", "blocks.1."}) {
        const auto& values = model.parameters.at(std::string(block) + "mlp.proj.bias");
        least = std::min<double>(least, *std::min_element(values.begin(), values.end()));
      }
      EXPECT_EQ(facts["tensors"][13]["min"], least);
    }
  }
  const std::string cut = folder.write("a.bin", test::llmc_model_bytes(model, {}).substr(0, 2000));
  EXPECT_EQ(inspect({cut}, false).error.substr(0, 6), "exit 4");
}

TEST(Inspect, ExplainsAShard) {
  const TempDir folder;
  std::vector<std::uint16_t> tokens = test::counting_tokens(100, 1'000'000);  // wraps around
  tokens[0] = 50256;
  const auto ends = std::count(tokens.begin(), tokens.end(), std::uint16_t{50256});
  const std::vector<int> first = {50256, 101, 102, 103, 104, 105, 106, 107,
                                  108,   109, 110, 111, 112, 113, 114, 115};
  for (const char* name : {"a.bin", "shard"}) {  // by name, and by magic number
    const json facts = facts_of(folder.write(name, test::shard_bytes(tokens)));
    EXPECT_EQ(facts["kind"], "token shard (llm.c)");
    EXPECT_EQ(facts["tokens"], 1'000'000);
    EXPECT_EQ(facts["min_token"], 0);
    EXPECT_EQ(facts["max_token"], 65535);
    EXPECT_EQ(facts["end_of_text_tokens"], ends);
    EXPECT_EQ(facts["first_tokens"], json(first));
  }
  const json empty = facts_of(folder.write("empty.bin", test::shard_bytes({})));
  EXPECT_EQ(empty["min_token"], nullptr);
  EXPECT_EQ(empty["first_tokens"], json::array());
  EXPECT_FALSE(empty.contains("document_tokens"));
}

TEST(Inspect, CountsTheDocumentsOfAShard) {
  const TempDir folder;
  constexpr std::uint16_t kEnd = 50256;
  const std::vector<std::uint16_t> tokens = {7, 8, kEnd, 1, 2, 3, kEnd, kEnd, 50257, kEnd, 5, 6};
  const json facts = facts_of(folder.write("a.bin", test::shard_bytes(tokens)));
  EXPECT_EQ(facts["end_of_text_tokens"], 4);
  EXPECT_EQ(facts["tokens_before_the_first_end_of_text"], 2);
  EXPECT_EQ(facts["empty_documents"], 1);
  EXPECT_EQ(facts["document_tokens"], json({{"shortest", 0}, {"mean", 1.5}, {"longest", 3}}));
  EXPECT_EQ(facts["tokens_beyond_gpt2"], 1);
  const json none = facts_of(folder.write("b.bin", test::shard_bytes(test::counting_tokens(0, 9))));
  EXPECT_EQ(none["tokens_before_the_first_end_of_text"], 9);
  EXPECT_EQ(none["empty_documents"], 0);
}

TEST(Inspect, ExplainsMultipleChoice) {
  const TempDir folder;
  const std::string lines = R"({"ctx":"abc","endings":["d","ef"],"label":1})"
                            "\n"
                            R"({"ctx":"a","endings":["b","c","d"],"label":1})";
  const json of_lines = facts_of(folder.write("task.jsonl", lines));
  EXPECT_EQ(of_lines["kind"], "multiple choice (JSON lines)");
  EXPECT_EQ(of_lines["examples"], 2);
  EXPECT_EQ(of_lines["examples_by_label"], json({0, 2, 0}));
  EXPECT_EQ(of_lines["context_bytes"], json({{"shortest", 1}, {"mean", 2.0}, {"longest", 3}}));
  EXPECT_EQ(of_lines["completion_bytes"]["longest"], 3);  // with the space before it

  // An example of 24 bytes: label 0 of 2, context (300), completions (5, 6), (50000).
  std::string bytes = test::header_bytes({.magic = 20240522, .version = 1, .tokens = 1});
  bytes[12] = 24;
  bytes += test::raw_token_bytes(
      std::vector<std::uint16_t>{65535, 24, 0, 0, 2, 1, 300, 2, 5, 6, 1, 50000});
  for (const char* name : {"task.bin", "task"}) {
    const json facts = facts_of(folder.write(name, bytes));
    EXPECT_EQ(facts["kind"], "multiple choice (llm.c)");
    EXPECT_EQ(facts["bytes"], 1048);
    EXPECT_EQ(facts["min_token"], 5);
    EXPECT_EQ(facts["max_token"], 50000);
    EXPECT_EQ(facts["completions_of_an_example"]["mean"], 2.0);
    EXPECT_EQ(facts["completion_tokens"], json({{"shortest", 1}, {"mean", 1.5}, {"longest", 2}}));
  }
  bytes[1024 + 6] = 2;
  const std::string damaged = folder.write("task.bin", bytes);
  EXPECT_TRUE(inspect({damaged}, false).error.starts_with("exit 3: " + damaged + ": byte 1030: "));
}

TEST(Inspect, ExplainsRawTokensWhenAsked) {
  const TempDir folder;
  const std::string path =
      folder.write("a.bin", test::raw_token_bytes(std::vector<std::uint16_t>{7, 50256, 9}));
  const json facts = facts_of(path, "nanogpt");
  EXPECT_EQ(facts["kind"], "raw tokens (nanoGPT)");
  EXPECT_EQ(facts["tokens"], 3);
  EXPECT_EQ(facts["first_tokens"], json({7, 50256, 9}));
  EXPECT_TRUE(inspect({path}, false).error.starts_with("exit 3: inspect " + path + ": "));
}

TEST(Inspect, ExplainsAText) {
  const TempDir folder;
  const json facts = facts_of(folder.write("a.txt", "one\ntwo \x1b[2J\xff\nthree"));
  EXPECT_EQ(facts["kind"], "text");
  EXPECT_EQ(facts["bytes"], 19);
  EXPECT_EQ(facts["lines"], 3);
  EXPECT_EQ(facts["distinct_bytes"], 14);
  EXPECT_EQ(facts_of(folder.write("b.md", ""))["lines"], 0);
  EXPECT_EQ(facts_of(folder.write("c.dat", "x\n"), "text")["lines"], 1);
  const std::string text = inspect({folder / "a.txt"}, false).text;
  EXPECT_EQ(text.find('\x1b'), text.npos) << "a file must not speak to the terminal";
}

TEST(Inspect, ExplainsMetrics) {
  const TempDir folder;
  const std::string path = folder.write("metrics.jsonl", kMetrics);
  EXPECT_EQ(facts_of(path), json({{"path", path},
                                  {"kind", "metrics"},
                                  {"training_lines", 3},
                                  {"validation_lines", 2},
                                  {"resumes", 1},
                                  {"first_step", 1},
                                  {"last_step", 3},
                                  {"first_train_loss", 5.5},
                                  {"last_train_loss", nullptr},
                                  {"last_val_loss", 4.5},
                                  {"best_val_loss", 4.125},
                                  {"best_val_step", 2},
                                  {"last_line_is_cut", false}}));
  folder.write("metrics.jsonl", std::string(kMetrics) + R"({"step":4,"tr)");
  EXPECT_EQ(facts_of(path)["last_line_is_cut"], true);
  folder.write("metrics.jsonl", std::string(kMetrics) + "{\"step\":4,\"tr\n");
  EXPECT_EQ(inspect({path}, false).error,
            "exit 3: " + path + ": line 7: not valid JSON at byte 14");
  folder.write("metrics.jsonl", "[]\n");
  EXPECT_EQ(
      inspect({path}, false).error,
      "exit 3: " + path + ": line 1: must be an object with a \"step\" that is a whole number");
  folder.write("metrics.jsonl", "{\"step\":1}\n");
  EXPECT_EQ(
      inspect({path}, false).error,
      "exit 3: " + path + R"(: line 1: must hold "train/loss", "val/..." or "event": "resume")");
}

TEST(Inspect, KnowsMetricsOfOtherNames) {
  const TempDir folder;
  const std::string line = R"({"step":3,"val/hellaswag/acc":0.25,"val/hellaswag/acc_norm":0.5})";
  const json facts = facts_of(folder.write("metrics.jsonl", kMetrics + line + "\n"));
  EXPECT_EQ(facts["validation_lines"], 2);
  EXPECT_EQ(facts["last_line_is_cut"], false);
}

TEST(Inspect, ExplainsConfigAndResult) {
  const TempDir folder;
  const json config =
      facts_of(folder.write("config.toml", "lr = 3e-4\ntrain = [\"a.txt\", \"b.txt\"]\n"));
  EXPECT_EQ(config["kind"], "options");
  EXPECT_EQ(config["train"], "a.txt b.txt");
  EXPECT_EQ(inspect({folder.write("bad.toml", "lr = -1\n")}, false).error.substr(0, 6), "exit 2");
  const json result =
      facts_of(folder.write("result.json", R"({"status":"finished","exit_code":0,"step":7})"));
  EXPECT_EQ(result["kind"], "result");
  EXPECT_EQ(result["step"], 7);
  const std::string other = folder.write("other.json", "{}");
  EXPECT_EQ(inspect({other}, false).error,
            "exit 3: " + other +
                R"(: is JSON, but no run's result.json, which has "status" and "exit_code")");
}

TEST(Inspect, ExplainsARunAsFarAsItIsSound) {
  const TempDir run;
  const std::string path = run.path();
  run.write("metrics.jsonl", kMetrics);
  run.write("config.toml", "lr = 0.5\n");
  save_checkpoint_of(path, 2);
  const std::string newest = save_checkpoint_of(path, 3);
  json facts = facts_of(path);
  EXPECT_EQ(facts["kind"], "run");
  EXPECT_EQ(facts["metrics"]["last_step"], 3);
  EXPECT_EQ(facts["config"], json({{"lr", "0.5"}}));
  EXPECT_EQ(facts["checkpoints"], json({"step-00000002", "step-00000003"}));
  EXPECT_EQ(facts["newest_whole_checkpoint"], "step-00000003");
  EXPECT_FALSE(facts.contains("problems"));

  fs::remove(newest + "/state.json");
  run.write("result.json", "{");
  const Output output = inspect({path}, true);
  facts = test::parse_json(output.text);
  EXPECT_EQ(facts["newest_whole_checkpoint"], "step-00000002");
  EXPECT_EQ(facts["problems"],
            json({path + "/result.json: not valid JSON at byte 2",
                  newest + ": has no state.json, so it is no checkpoint folder"}));
  EXPECT_EQ(output.error, "exit 3: " + path + "/result.json: not valid JSON at byte 2");
}

TEST(Inspect, PrintsAnObjectForEachPath) {
  const TempDir folder;
  const Output output =
      inspect({folder.write("a.txt", "x"), folder.write("b.txt", "\xff\n")}, true);
  EXPECT_EQ(std::count(output.text.begin(), output.text.end(), '\n'), 2);
  EXPECT_EQ(test::parse_json(output.text.substr(output.text.find('\n')))["path"], folder / "b.txt");
}

TEST(Inspect, PrintsATableForReaders) {
  const TempDir folder;
  test::HostBackend backend;
  std::vector<float> a = {1, 2, 3, 4, 5, 6};
  const std::string path = folder / "x.safetensors";
  write_safetensors(path, backend,
                    {{{"table", {2, 3}, Tensor(a.data(), DType::fp32, {6})},
                      {"b", {1}, Tensor(a.data(), DType::fp32, {1})}}},
                    {{"precision", "fp32"}});
  const std::string expected =
      "path      " + path +
      "\n"
      "kind      safetensors\n"
      "bytes     " +
      std::to_string(fs::file_size(path)) +
      "\n"
      "elements  7\n"
      "metadata\n"
      "  precision  fp32\n"
      "tensors\n"
      "  name   type  shape  elements  mean      std  min  max  non finite\n"
      "  table  F32   2, 3          6   3.5  1.70783    1    6           0\n"
      "  b      F32   1             1     1        0    1    1           0\n";
  EXPECT_EQ(inspect({path}, false).text, expected);
}

TEST(Inspect, SaysWhatItWouldRecognise) {
  const TempDir folder;
  const std::string unknown = folder.write("a.dat", "something else, not known");
  EXPECT_EQ(
      inspect({unknown}, false).error,
      "exit 3: " + unknown +
          ": not a file that Lathe reads: a run, checkpoint, Hugging Face, dataset or tokenizer "
          "folder, .safetensors, .bin (token shard, evaluation file, llm.c model or tokenizer), "
          ".txt or .md (text), .jsonl (metrics, multiple choice, documents), config.toml, "
          "result.json, dataset.json, vocab.bpe, merges.txt, tokenizer.json");
  EXPECT_EQ(inspect({folder.path()}, false).error,
            "exit 3: " + folder.path().string() +
                ": a folder that is no run (config.toml, metrics.jsonl, checkpoints), checkpoint "
                "(state.json), Hugging Face model (config.json), dataset (dataset.json) or "
                "tokenizer (merges.txt, tokenizer.json)");
  EXPECT_EQ(
      inspect({folder / "none.safetensors"}, false).error,
      "exit 3: " + (folder / "none.safetensors") + ": cannot open: No such file or directory");
  EXPECT_EQ(inspect({folder / "none"}, false).error,
            "exit 3: " + (folder / "none") + ": cannot open: No such file or directory");
}

}  // namespace
}  // namespace lathe
