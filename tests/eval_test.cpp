// lathe eval from outside: what it measures against what can be counted by hand, for people and for
// programs, and how it ends.
#include <gtest/gtest.h>

#include <cmath>
#include <csignal>

#include "lathe/commands.h"
#include "lathe/evaluate.h"
#include "support/error_of.h"
#include "support/json.h"
#include "support/open_files.h"
#include "support/process.h"
#include "support/shards.h"
#include "support/temp_dir.h"
#include "support/test_device.h"

namespace lathe::test {
namespace {

using nlohmann::json;

constexpr const char* kTask =
    R"({"ctx":"line 3","endings":["6 of the text","xx","9 of the text"],"label":0})"
    "\n"
    R"({"ctx":"line 100 of the","endings":["text","zzz"],"label":0})"
    "\n";

// A model that has seen lines of text, made once.
class Eval : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = std::make_unique<TempDir>();
    std::string text;
    for (int i = 0; i < 400; ++i) text += "line " + std::to_string(i * i) + " of the text\n";
    folder_->write("text.txt", text);
    folder_->write("task.jsonl", kTask);
    train("text.txt", "run", {});
  }
  static void TearDownTestSuite() { folder_.reset(); }

  static std::string path(const std::string& name) { return *folder_ / name; }

  static void train(const std::string& text, const std::string& run,
                    const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {"--quiet",       "--layers=1",    "--heads=1",
                                          "--channels=16", "--context=16",  "--steps=20",
                                          "--lr=1e-2",     "--threads=1",   "--precision=fp32",
                                          "--device",      device_option(), "--train",
                                          path(text),      "--out",         path(run)};
    arguments.insert(arguments.end(), more.begin(), more.end());
    ASSERT_EQ(train_command(parse_options(Command::train, arguments, {})), 0);
  }

  static Options options(std::vector<std::string> more, const std::string& run = "run") {
    more.insert(more.end(), {"--checkpoint", path(run), "--device", device_option()});
    return parse_options(Command::eval, more, {});
  }

  static std::string eval(const std::vector<std::string>& more, const std::string& run = "run") {
    testing::internal::CaptureStdout();
    EXPECT_EQ(eval_command(options(more, run)), 0);
    return testing::internal::GetCapturedStdout();
  }

  static inline std::unique_ptr<TempDir> folder_;
};

TEST_F(Eval, GivesLossByTokenAndByByte) {
  const json result =
      parse_json(eval({"--val", path("text.txt"), "--val-tokens", "160", "--json"}));
  const double loss = result.at("val_loss");
  EXPECT_EQ(result.at("tokens"), 160);
  EXPECT_EQ(result.at("bytes"), 160);
  EXPECT_DOUBLE_EQ(result.at("perplexity"), std::exp(loss));
  EXPECT_DOUBLE_EQ(result.at("bits_per_byte"), loss / std::log(2.0));
  EXPECT_GT(result.at("val_loss_standard_error"), 0.0);
  EXPECT_GT(result.at("tokens_per_second"), 0.0);
  EXPECT_FALSE(result.contains("multiple_choice"));
}

// Words of one token, "the", and blanks of another, behind an end of text that is no target.
TEST_F(Eval, TokenisesTextAsTheModelDoes) {
  folder_->write("merges.txt", "#version: 0.2\nt h\nth e\n");
  std::string text;
  for (int i = 0; i < 400; ++i) text += "the ";
  folder_->write("the.txt", text);
  train("the.txt", "the", {"--tokenizer", path("merges.txt")});
  const json result =
      parse_json(eval({"--val", path("the.txt"), "--val-tokens", "160", "--json"}, "the"));
  EXPECT_EQ(result.at("tokens"), 160);
  EXPECT_EQ(result.at("bytes"), 80 * 3 + 80 * 1);
  EXPECT_DOUBLE_EQ(result.at("bits_per_byte"),
                   result.at("val_loss").get<double>() / std::log(2.0) * 160 / 320);
  EXPECT_LT(result.at("val_loss"), 2.0);  // what it has learned, not other tokens
  EXPECT_EQ(error_of([] { eval_command(options({}, "the")); }).substr(0, 14), "exit 2: --val:");
}

// Lines of documents, of which bytes have no end.
TEST_F(Eval, TokenisesDocumentsOfLines) {
  folder_->write("lines.txt", "one two three four, five six seven eight");
  folder_->write("lines.jsonl",
                 "{\"t\":\"one two three four, \"}\n{\"t\":\"five six seven eight\"}");
  const json plain = parse_json(eval({"--val", path("lines.txt"), "--json"}));
  const json lines =
      parse_json(eval({"--val", path("lines.jsonl"), "--text-field", "t", "--json"}));
  EXPECT_EQ(lines.at("tokens"), 32);
  EXPECT_EQ(lines.at("val_loss"), plain.at("val_loss"));
}

TEST_F(Eval, AnswersMultipleChoiceAlone) {
  const std::vector<std::string> arguments = {"--multiple-choice", path("task.jsonl")};
  json first;
  for (const char* micro_batch : {"1", "3", "8"}) {
    std::vector<std::string> more = arguments;
    more.insert(more.end(), {"--json", "--micro-batch", micro_batch});
    const json result = parse_json(eval(more));
    EXPECT_FALSE(result.contains("val_loss"));
    ASSERT_EQ(result.at("multiple_choice").size(), 1u);
    json task = result.at("multiple_choice")[0];
    EXPECT_EQ(task.at("file"), path("task.jsonl"));
    EXPECT_EQ(task.at("examples"), 2);
    EXPECT_EQ(task.at("cut_examples"), 2);  // 19 and 20 characters, of which 17 fit
    for (const char* name : {"acc", "acc_norm", "acc_bytes"}) {
      const double p = task.at(name);
      EXPECT_EQ(task.at(std::string(name) + "_standard_error"), std::sqrt(p * (1 - p) / 2));
    }
    for (const char* name : {"padding_fraction", "examples_per_second", "tokens_per_second"}) {
      EXPECT_GE(task.at(name), 0.0);
      task.erase(name);
    }
    if (first.is_null()) first = task;
    EXPECT_EQ(task, first);
  }
  EXPECT_EQ(first.at("acc_norm"), 1.0);  // what it has seen is likelier than "xx" and "zzz"
  const std::string text = eval(arguments);
  EXPECT_NE(text.find("task.jsonl | 2 examples | acc "), text.npos) << text;
  EXPECT_NE(text.find(" | acc_norm 1.0000 +- 0.0000 | "), text.npos) << text;
  EXPECT_NE(text.find("2 contexts cut to 16 positions"), text.npos) << text;
}

TEST_F(Eval, MeasuresSeveralThingsAtOnce) {
  const json result = parse_json(eval({"--multiple-choice", path("task.jsonl"), path("task.jsonl"),
                                       "--val", path("text.txt"), "--json"}));
  EXPECT_EQ(result.at("multiple_choice").size(), 2u);
  EXPECT_TRUE(result.contains("val_loss"));
}

// JSON is UTF-8, whatever a path is.
TEST_F(Eval, NamesAPathThatIsNoUtf8) {
  std::filesystem::copy(path("run"), path("run\xff"), std::filesystem::copy_options::recursive);
  const json result =
      parse_json(eval({"--val", path("text.txt"), "--val-tokens", "160", "--json"}, "run\xff"));
  const std::string checkpoint = result.at("checkpoint");
  EXPECT_NE(checkpoint.find("/run\xEF\xBF\xBD"), checkpoint.npos) << checkpoint;
}

TEST_F(Eval, RefusesBeforeItMeasures) {
  const std::string text = path("text.txt");
  EXPECT_EQ(error_of([&] {
              eval_command(options({"--multiple-choice", text}));
            }),
            "exit 3: " + text +
                ": byte 0: magic number 1701734764; that of an llm.c evaluation file is 20240522");
  const std::string none = path("none.bin");
  EXPECT_EQ(error_of([&] {
              eval_command(options({"--multiple-choice", none}));
            }),
            "exit 3: " + none + ": cannot open: No such file or directory");
}

// Before it is over: nothing is printed, and the code is the signal's.
TEST_F(Eval, EndsAtAStopSignal) {
  std::string long_text;
  while (long_text.size() < 4'000'000) long_text += "all work and no play\n";
  folder_->write("long.txt", long_text);
  std::vector<std::string> arguments = {"/usr/bin/timeout", "--preserve-status", "--signal=INT",
                                        "0.5"};
  for (const std::string& argument : lathe_arguments(
           "eval --checkpoint run --val long.txt --val-tokens 4M --threads 1 --device cpu")) {
    arguments.push_back(argument);
  }
  const ProcessResult result = run_process({.arguments = arguments, .folder = folder_->path()});
  EXPECT_EQ(result.exit_code, 128 + SIGINT);
  EXPECT_EQ(result.out, "");
  EXPECT_EQ(result.err, "lathe: stopped by signal 2 before the evaluation was over\n");
}

// Five sequences of two tokens with mean losses 1, 2, 3, 4, 5.
TEST(StandardError, IsThatOfTheSequences) {
  const Evaluation evaluation{.loss = 3, .tokens = 10, .sequence_losses = {2, 4, 6, 8, 10}};
  EXPECT_NEAR(standard_error(evaluation).value(), std::sqrt(2.5 / 5), 1e-15);
  EXPECT_FALSE(standard_error({.loss = 3, .tokens = 2, .sequence_losses = {6}}).has_value());
}

// Tokens that stand for several bytes, for one, and for none.
class CountingTokenizer final : public Tokenizer {
 public:
  std::string name() const override { return "counting"; }
  std::int64_t vocab() const override { return 4; }
  std::int32_t first_token() const override { return 0; }
  std::optional<std::int32_t> end_of_text() const override { return 0; }
  std::string_view bytes(std::int32_t token) const override {
    return std::string_view("xxx").substr(0, static_cast<std::size_t>(token));
  }
  std::unique_ptr<Encoder> make_encoder() const override { return nullptr; }
};

TEST(TargetBytes, AreThoseOfTheTargets) {
  const TempDir folder;
  const std::vector<std::uint16_t> tokens = {3, 1, 0, 2, 3, 0, 1, 3};  // 3, (1, 0), (2, 3), (0, 1)
  const TokenFiles files = open_files({folder.write("a.bin", shard_bytes(tokens))}, {.vocab = 4});
  const CountingTokenizer tokenizer;
  Evaluation evaluation{.loss = 0, .tokens = 4, .sequence_losses = {0, 0}};
  EXPECT_EQ(target_bytes(evaluation, files, 2, tokenizer), 1 + 0 + 2 + 3);
  evaluation.sequence_losses.push_back(0);
  EXPECT_EQ(target_bytes(evaluation, files, 2, tokenizer), 1 + 0 + 2 + 3 + 0 + 1);
}

}  // namespace
}  // namespace lathe::test
