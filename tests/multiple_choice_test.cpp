// Multiple-choice files of both kinds, sound and damaged; scores against PyTorch's logits and
// against float64 sums over the model's own; and what counts as a right answer.
#include "lathe/multiple_choice.h"

#include <gtest/gtest.h>

#include <cmath>
#include <csignal>
#include <limits>

#include "lathe/stop_signal.h"
#include "support/error_of.h"
#include "support/golden.h"
#include "support/temp_dir.h"
#include "support/test_model.h"

namespace lathe::test {
namespace {

using Words = std::vector<std::uint16_t>;
using Tokens = std::vector<std::int32_t>;

// Evaluation files, written independently of the code that reads them.
struct FileHeader {
  std::int32_t magic = 20240522, version = 1, examples = 0, longest = 0;
};

std::string file_bytes(const FileHeader& header, const std::vector<Words>& examples) {
  std::string bytes;
  const auto append = [&](std::uint32_t value, int width) {
    for (int i = 0; i < width; ++i) bytes += static_cast<char>(value >> (8 * i) & 0xff);
  };
  for (const std::int32_t field : {header.magic, header.version, header.examples, header.longest}) {
    append(static_cast<std::uint32_t>(field), 4);
  }
  bytes.resize(1024, '\0');
  for (const Words& example : examples) {
    for (const std::uint16_t word : example) append(word, 2);
  }
  return bytes;
}

// Start, bytes, index, label, completions, context, completions.
const Words kFirst = {65535, 26, 0, 1, 2, 3, 10, 11, 50256, 1, 12, 1, 14};
const Words kSecond = {65535, 34, 1, 2, 3, 1, 7, 2, 0, 1, 3, 65534, 2, 1, 1, 9, 5};

std::string sound_file() {
  Words second = kSecond;
  second.pop_back();
  second[1] = 32;
  return file_bytes({.examples = 2, .longest = 32}, {kFirst, second});
}

MultipleChoiceTask parse(const std::string& bytes) {
  return parse_llmc_evaluation(std::as_bytes(std::span(bytes)), "f.bin");
}

MultipleChoiceTask parse_lines(const std::string& text) {
  return parse_multiple_choice_lines(text, *byte_tokenizer(), "f.jsonl");
}

const Tokenizer& no_tokenizer() {
  throw Error(ExitCode::usage, "no tokenizer");
}

TEST(MultipleChoiceFile, ReadsExamplesOfLlmC) {
  const TempDir folder;
  const MultipleChoiceTask task =
      open_multiple_choice(folder.write("f.bin", sound_file()), no_tokenizer);
  EXPECT_EQ(task.name, folder / "f.bin");
  ASSERT_EQ(task.examples.size(), 2u);
  EXPECT_EQ(task.examples[0].context, (Tokens{10, 11, 50256}));
  EXPECT_EQ(task.examples[0].completions, (std::vector<Tokens>{{12}, {14}}));
  EXPECT_EQ(task.examples[0].label, 1);
  EXPECT_EQ(task.examples[1].context, (Tokens{7}));
  EXPECT_EQ(task.examples[1].completions, (std::vector<Tokens>{{0, 1}, {65534, 2, 1}, {9}}));
  EXPECT_EQ(task.examples[1].label, 2);
}

TEST(MultipleChoiceFile, RefusesAWrongHeader) {
  const auto error = [](const FileHeader& header, const std::vector<Words>& examples) {
    return error_of([&] { parse(file_bytes(header, examples)); });
  };
  const std::vector<Words> one = {kFirst};
  EXPECT_EQ(error({.magic = 20240520, .examples = 1, .longest = 26}, one),
            "exit 3: f.bin: byte 0: magic number 20240520; that of an llm.c evaluation file is "
            "20240522");
  EXPECT_EQ(error({.version = 2, .examples = 1, .longest = 26}, one),
            "exit 3: f.bin: byte 4: version 2; Lathe reads version 1 of llm.c evaluation files");
  for (const std::int32_t examples : {0, -1, 65536}) {
    EXPECT_EQ(error({.examples = examples, .longest = 26}, one),
              "exit 3: f.bin: byte 8: " + std::to_string(examples) +
                  " examples; there must be between 1 and 65535");
  }
  for (const std::int32_t longest : {0, -26, 65536, 0x7fffffff}) {
    EXPECT_EQ(error({.examples = 1, .longest = longest}, one),
              "exit 3: f.bin: byte 12: a longest example of " + std::to_string(longest) +
                  " bytes; it must be between 1 and 65535");
  }
  EXPECT_EQ(error({.examples = 1, .longest = 24}, one),
            "exit 3: f.bin: byte 12: 1 examples of at most 24 bytes, but 26 bytes follow the "
            "header");
  EXPECT_EQ(error({.examples = 1, .longest = 28}, one),
            "exit 3: f.bin: byte 12: the longest example has 26 bytes, the header says 28");
  EXPECT_EQ(error({.examples = 2, .longest = 26}, one),
            "exit 3: f.bin: byte 1050: example 1 has no mark: the file ends");
  EXPECT_EQ(error({.examples = 1, .longest = 52}, {kFirst, kFirst}),
            "exit 3: f.bin: byte 1050: 26 bytes follow the last of 1 examples");
}

// Each field of an example, by its place.
TEST(MultipleChoiceFile, RefusesAWrongExample) {
  struct Damage {
    std::size_t word;
    std::uint16_t value;
    const char* message;
  };
  // clang-format off: a table, one line for a case
  const Damage damages[] = {
      {0, 65534, "byte 1024: example 0 begins with 65534, not with the mark of an example, 65535"},
      {1, 24,
       "byte 1046: example 0 has a completion of 1 tokens; there must be 1 or more, and 0 can "
       "follow"},
      {1, 28, "byte 1026: example 0 says it has 28 bytes, but the file has 26 from there on"},
      {1, 3, "byte 1028: example 0 has no index: its size ends"},
      {2, 1, "byte 1028: example 0 says it is example 1"},
      {3, 2,
       "byte 1030: example 0 has label 2 of 2 completions; there must be at least 2, and the label "
       "is below their number"},
      {4, 1,
       "byte 1030: example 0 has label 1 of 1 completions; there must be at least 2, and the label "
       "is below their number"},
      {4, 3, "byte 1050: example 0 has no completion: the file ends"},
      {5, 0,
       "byte 1034: example 0 has a context of 0 tokens; there must be 1 or more, and 7 can follow"},
      {5, 8,
       "byte 1034: example 0 has a context of 8 tokens; there must be 1 or more, and 7 can follow"},
      {5, 2,
       "byte 1040: example 0 has a completion of 50256 tokens; there must be 1 or more, and 4 can "
       "follow"},
      {6, 65535, "byte 1036: example 0 has the mark of an example, 65535, in its context"},
      {9, 0,
       "byte 1042: example 0 has a completion of 0 tokens; there must be 1 or more, and 3 can "
       "follow"},
      {9, 2,
       "byte 1048: example 0 has a completion of 14 tokens; there must be 1 or more, and 0 can "
       "follow"},
      {11, 2,
       "byte 1046: example 0 has a completion of 2 tokens; there must be 1 or more, and 1 can "
       "follow"},
  };
  // clang-format on
  for (const Damage& damage : damages) {
    Words example = kFirst;
    example[damage.word] = damage.value;
    const std::string bytes = file_bytes({.examples = 1, .longest = 28}, {example});
    EXPECT_EQ(error_of([&] { parse(bytes); }), std::string("exit 3: f.bin: ") + damage.message)
        << damage.word;
  }
  Words longer = kFirst;
  longer.push_back(1);
  longer[1] = 28;
  EXPECT_EQ(error_of([&] { parse(file_bytes({.examples = 1, .longest = 28}, {longer})); }),
            "exit 3: f.bin: byte 1050: example 0 has 2 bytes behind its last completion");
}

TEST(MultipleChoiceFile, RefusesEveryTruncation) {
  const TempDir folder;
  const std::string bytes = sound_file();
  parse(bytes);
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    const std::string message = error_of([&] { parse(bytes.substr(0, size)); });
    EXPECT_TRUE(message.starts_with("exit 3: f.bin: ")) << size << message;
    if (size % 97 == 0) {  // what is read from a file is refused alike
      const std::string path = folder.write("f.bin", bytes.substr(0, size));
      EXPECT_EQ(error_of([&] { open_multiple_choice(path, no_tokenizer); }),
                "exit 3: " + path + message.substr(13));
    }
  }
}

TEST(MultipleChoiceLines, ReadsContextEndingsAndLabel) {
  const MultipleChoiceTask task = parse_lines(
      R"({"ind": 4, "ctx": "A man", "label": 1, "endings": ["sits.", "\u00e9"], "more": [{}]})"
      "\n"
      R"({"label":"2","endings":["a","b","c"],"ctx":"x"})");
  ASSERT_EQ(task.examples.size(), 2u);
  EXPECT_EQ(task.examples[0].context, (Tokens{'A', ' ', 'm', 'a', 'n'}));
  EXPECT_EQ(task.examples[0].completions,
            (std::vector<Tokens>{{' ', 's', 'i', 't', 's', '.'}, {' ', 0xC3, 0xA9}}));
  EXPECT_EQ(task.examples[0].label, 1);
  EXPECT_EQ(task.examples[1].completions.size(), 3u);
  EXPECT_EQ(task.examples[1].label, 2);
}

TEST(MultipleChoiceLines, RefusesWhatTheyCannotMean) {
  const auto error = [](const std::string& line) {
    const std::string sound = R"({"ctx":"x","endings":["a","b"],"label":0})";
    return error_of([&] { parse_lines(sound + "\n" + line + "\n"); });
  };
  const auto at_line = [](const std::string& message) {
    return "exit 3: f.jsonl: line 2: " + message;
  };
  EXPECT_EQ(error("{"), at_line("not valid JSON at byte 2"));
  EXPECT_EQ(error(""), at_line("not valid JSON at byte 1"));
  EXPECT_EQ(error("[]"), at_line(R"(must be an object with "ctx", "endings" and "label")"));
  EXPECT_EQ(error(R"({"ctx":"x","label":0})"), at_line(R"(has no "endings")"));
  EXPECT_EQ(error(R"({"ctx":"x","endings":["a","b"]})"), at_line(R"(has no "label")"));
  EXPECT_EQ(error(R"({"endings":["a","b"],"label":0})"), at_line(R"(has no "ctx")"));
  for (const char* ctx : {R"("")", "3", "null"}) {
    EXPECT_EQ(error(std::string(R"({"endings":["a","b"],"label":0,"ctx":)") + ctx + "}"),
              at_line(R"("ctx" must be a text that is not empty)"));
  }
  EXPECT_EQ(error(R"({"ctx":"x","endings":["a",""],"label":0})"),
            at_line(R"(each of "endings" must be a text that is not empty)"));
  for (const char* endings : {R"(["a"])", R"("ab")", "{}"}) {
    EXPECT_EQ(error(std::string(R"({"ctx":"x","label":0,"endings":)") + endings + "}"),
              at_line(R"("endings" must be a list of at least two)"));
  }
  for (const char* label : {"2", "-1", "1.0", R"("")", R"("2")", R"("0x")", R"("-1")", "null"}) {
    EXPECT_EQ(error(std::string(R"({"ctx":"x","endings":["a","b"],"label":)") + label + "}"),
              at_line(R"("label" must be a whole number below 2, the number of endings)"))
        << label;
  }
  EXPECT_EQ(error_of([] { parse_lines(""); }),
            "exit 3: f.jsonl: is empty; it must have an example on each line");
  const TempDir folder;
  const std::string path = folder.write("f.jsonl", "{}");
  EXPECT_EQ(error_of([&] { open_multiple_choice(path, no_tokenizer); }), "exit 2: no tokenizer");
}

// log p of token `target`, of what a model says of the vocabulary.
double log_p(std::span<const float> logits, std::int32_t target) {
  double sum = 0;
  for (const float logit : logits) sum += std::exp(double{logit});
  return logits[static_cast<std::size_t>(target)] - std::log(sum);
}

// Contexts of every length within a row of the golden batch, each with what really follows it and
// with single tokens that do not.
MultipleChoiceTask golden_task(const GoldenCase& golden) {
  MultipleChoiceTask task{.name = "golden", .examples = {}};
  for (std::int64_t row = 0; row < golden.rows; ++row) {
    const auto tokens = golden.batch(0, row, 1).tokens;
    for (std::size_t k = 1; k < tokens.size(); ++k) {
      MultipleChoiceExample example{
          .context = {tokens.begin(), tokens.begin() + k}, .completions = {{0}}, .label = 0};
      for (const std::size_t length :
           {std::size_t{1}, (tokens.size() - k + 1) / 2, tokens.size() - k}) {
        const auto begin = tokens.begin() + static_cast<std::ptrdiff_t>(k);
        example.completions.emplace_back(begin, begin + static_cast<std::ptrdiff_t>(length));
      }
      example.completions.push_back({static_cast<std::int32_t>(golden.config.vocab - 1)});
      task.examples.push_back(example);
    }
  }
  return task;
}

TestModel make_model(const ModelConfig& config, std::int64_t micro_batch, std::int64_t seq_len) {
  return TestModel({.config = config,
                    .options = {.micro_batch = micro_batch,
                                .seq_len = seq_len,
                                .precision = DType::fp32,
                                .recompute = Recompute::none,
                                .training = true}});
}

class MultipleChoiceGolden : public testing::TestWithParam<const char*> {};

// PyTorch's logits in float64. The tolerance is that of golden_test's logits, for completions of up
// to a dozen tokens.
TEST_P(MultipleChoiceGolden, ScoresAreThoseOfPyTorch) {
  const GoldenCase golden =
      read_golden(std::string(LATHE_GOLDEN_DIR "/") + GetParam() + ".safetensors");
  TestModel model = make_model(golden.config, 2, golden.seq_len);
  for (const ParameterSpec& spec : model.specs()) model.set(spec, golden.initial.at(spec.name));
  model.publish();
  const MultipleChoiceTask task = golden_task(golden);
  const MultipleChoiceScores scores = score(model.model(), task).value();
  const auto V = static_cast<std::size_t>(golden.config.vocab);
  const auto T = static_cast<std::size_t>(golden.seq_len);
  for (std::size_t i = 0; i < task.examples.size(); ++i) {
    const MultipleChoiceExample& example = task.examples[i];
    const std::size_t row = i / (T - 1), last = example.context.size() - 1;
    for (std::size_t k = 0; k < example.completions.size(); ++k) {
      double expected = 0;
      for (std::size_t j = 0; j < example.completions[k].size(); ++j) {
        const auto logits = std::span(golden.logits).subspan((row * T + last + j) * V, V);
        expected += log_p(logits, example.completions[k][j]);
      }
      EXPECT_NEAR(scores.log_probs[i][k], expected, 2e-5) << i << " " << k;
    }
  }
  EXPECT_EQ(scores.cut_examples, 0);
}

INSTANTIATE_TEST_SUITE_P(Cases, MultipleChoiceGolden, testing::Values("odd", "one_head", "deep"));

constexpr ModelConfig kConfig = {
    .layers = 2, .heads = 2, .channels = 24, .context = 40, .vocab = 150};

// Examples of all kinds of lengths; some are longer than a context of 24.
MultipleChoiceTask random_task() {
  MultipleChoiceTask task{.name = "random", .examples = {}};
  const RandomTokens random(1, 4000, kConfig.vocab, 3);
  std::span<const std::int32_t> left = random.tokens;
  const auto take = [&](std::int64_t count) {
    const auto taken = left.first(static_cast<std::size_t>(count));
    left = left.subspan(taken.size());
    return Tokens(taken.begin(), taken.end());
  };
  for (std::int64_t i = 0; i < 30; ++i) {
    MultipleChoiceExample example{.context = take(1 + i * 7 % 31), .completions = {}, .label = 0};
    for (std::int64_t k = 0; k < 2 + i % 3; ++k) {
      example.completions.push_back(take(1 + (3 * i + 5 * k) % 11));
    }
    example.label = i % std::ssize(example.completions);
    task.examples.push_back(example);
  }
  return task;
}

// One completion alone, token by token, through the other way to ask a model.
double score_alone(Gpt2& model, Tokens context, const Tokens& completion) {
  double sum = 0;
  for (const std::int32_t token : completion) {
    sum += log_p(model.next_token_logits(context), token);
    context.push_back(token);
  }
  return sum;
}

// What all completions of an example can be read behind, in seq_len positions.
Tokens kept(const MultipleChoiceExample& example, std::size_t seq_len) {
  std::size_t longest = 0;
  for (const Tokens& completion : example.completions)
    longest = std::max(longest, completion.size());
  const std::size_t most = seq_len - (longest - 1);
  if (example.context.size() <= most) return example.context;
  return {example.context.end() - static_cast<std::ptrdiff_t>(most), example.context.end()};
}

TEST(MultipleChoiceScores, AreTheSameForAnyMicroBatchAndThoseOfEachAlone) {
  constexpr std::size_t kSeqLen = 24;
  const MultipleChoiceTask task = random_task();
  std::vector<MultipleChoiceScores> all;
  for (const std::int64_t micro_batch : {1, 3, 8, 64}) {
    TestModel model = make_model(kConfig, micro_batch, kSeqLen);
    model.initialize(7, 4);
    all.push_back(score(model.model(), task).value());
  }
  TestModel model = make_model(kConfig, 1, kSeqLen);
  model.initialize(7, 4);
  std::int64_t cut = 0, tokens = 0;
  for (std::size_t i = 0; i < task.examples.size(); ++i) {
    const MultipleChoiceExample& example = task.examples[i];
    const Tokens context = kept(example, kSeqLen);
    if (context.size() < example.context.size()) ++cut;
    for (std::size_t k = 0; k < example.completions.size(); ++k) {
      const double alone = score_alone(model.model(), context, example.completions[k]);
      for (const MultipleChoiceScores& scores : all) {
        EXPECT_NEAR(scores.log_probs[i][k], alone, 1e-5 * std::abs(alone)) << i << " " << k;
      }
      tokens += std::ssize(context) + std::ssize(example.completions[k]) - 1;
    }
  }
  EXPECT_GT(cut, 3);
  for (const MultipleChoiceScores& scores : all) {
    EXPECT_EQ(scores.cut_examples, cut);
    EXPECT_EQ(scores.tokens, tokens);
    EXPECT_GE(scores.padded_tokens, tokens);
    EXPECT_LT(scores.padded_tokens, 2 * tokens);
    const auto [sum, token, byte] = grade(task, scores, nullptr);
    const auto [first_sum, first_token, first_byte] = grade(task, all[0], nullptr);
    EXPECT_EQ(sum.value, first_sum.value);
    EXPECT_EQ(token.value, first_token.value);
  }
}

TEST(MultipleChoiceScores, SayHowFarTheyAre) {
  TestModel model = make_model(kConfig, 1, 24);
  model.initialize(7);
  std::vector<std::int64_t> seen = {0};
  const MultipleChoiceScores scores =
      score(model.model(), random_task(), [&](std::int64_t done, std::int64_t all) {
        EXPECT_GT(done, seen.back());
        EXPECT_LE(done, all);
        seen.push_back(done);
      }).value();
  EXPECT_EQ(seen.back(), scores.tokens);
}

TEST(MultipleChoiceScores, AStopSignalEndsThem) {
  TestModel model = make_model(kConfig, 1, 24);
  model.initialize(7);
  watch_stop_signals();
  std::raise(SIGTERM);
  EXPECT_FALSE(score(model.model(), random_task()).has_value());
  watch_stop_signals();  // forgets the signal
}

TEST(MultipleChoiceScores, RefuseWhatDoesNotFitTheModel) {
  TestModel model = make_model(kConfig, 1, 24);
  model.initialize(7);
  MultipleChoiceTask task{.name = "f", .examples = {{{1}, {{2}, {3}}, 0}, {{1}, {{2}, {3}}, 0}}};
  const auto error = [&] { return error_of([&] { score(model.model(), task); }); };
  EXPECT_EQ(error(), "");
  task.examples[1].completions[1] = {149, 150};
  EXPECT_EQ(error(), "exit 3: f: example 1: token 150 is outside the model's vocabulary of 150");
  task.examples[0].context = {151};
  EXPECT_EQ(error(), "exit 3: f: example 0: token 151 is outside the model's vocabulary of 150");
  task.examples[0].context = {0};
  task.examples[1].completions[1] = Tokens(24);
  EXPECT_EQ(error(), "");
  task.examples[1].completions[1] = Tokens(25);
  EXPECT_EQ(error(),
            "exit 3: f: example 1: a completion of 25 tokens does not fit into the 24 positions of "
            "the model or of --seq-len");
  task.examples.pop_back();
  const ParameterSpec& gain = model.specs().back();
  model.set(gain, std::vector<float>(static_cast<std::size_t>(gain.count()),
                                     std::numeric_limits<float>::quiet_NaN()));
  model.publish();
  EXPECT_EQ(
      error(),
      "exit 7: f: example 0: the model's log p of completion 0 is not finite: its weights are "
      "no use");
}

// Bytes by hand: "ab" has one token here, " abcd" five, of which the space does not count.
TEST(MultipleChoiceAccuracy, GoesBySumByTokenAndByByte) {
  const Tokens two = {'a', 'b'}, five = {' ', 'a', 'b', 'c', 'd'}, three = {'x', 'y', 'z'};
  const MultipleChoiceTask task{.name = "f",
                                .examples = {{{1}, {two, five, three}, 0},
                                             {{1}, {two, five, three}, 1},
                                             {{1}, {two, five, three}, 1},
                                             {{1}, {two, five, three}, 1},
                                             {{1}, {two, five, three}, 1},
                                             {{1}, {two, five}, 0},
                                             {{1}, {three, three}, 1}}};
  // By token -2, -1.8, -2; by byte -2, -2.25, -2.
  const std::vector<double> different = {-4, -9, -6};
  const MultipleChoiceScores scores{
      .log_probs = {different, different, different, different, {-9, -8, -7}, {-2, -5}, {-1, -1}},
      .cut_examples = 0,
      .tokens = 0,
      .padded_tokens = 0};
  const MultipleChoiceAccuracy accuracy = grade(task, scores, byte_tokenizer().get());
  EXPECT_EQ(accuracy.by_sum.value, 2 / 7.0);           // the first and the sixth
  EXPECT_EQ(accuracy.by_token.value, 5 / 7.0);         // the second to the sixth
  EXPECT_EQ(accuracy.by_byte.value().value, 3 / 7.0);  // the first, the fifth and the sixth
  EXPECT_NEAR(accuracy.by_sum.standard_error, std::sqrt(2.0 / 7 * (5.0 / 7) / 7), 1e-15);
  EXPECT_FALSE(grade(task, scores, nullptr).by_byte.has_value());
}

}  // namespace
}  // namespace lathe::test
