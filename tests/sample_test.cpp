// Text from a model: what is remembered of what came before, when samples end, and how text is
// shown while it is made.
#include "lathe/sample.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>
#include <memory>

#include "lathe/commands.h"
#include "lathe/model_files.h"
#include "lathe/stop_signal.h"
#include "support/json.h"
#include "support/plain_model.h"
#include "support/temp_dir.h"
#include "support/test_model.h"
#include "tokenizer/bpe_files.h"
#include "tokenizer/utf8_stream.h"

namespace lathe {
namespace {

using Tokens = std::vector<std::int32_t>;

constexpr std::int64_t kPositions = 8;

class Generate : public testing::Test {
 protected:
  Generate() { model_.initialize(1, /*scale=*/20); }

  std::vector<Tokens> samples(Decoder& decoder, const SampleSpec& spec) {
    std::vector<Tokens> result(static_cast<std::size_t>(spec.samples));
    generate(decoder, spec, [&](std::int64_t sample, std::int32_t token) {
      result.at(static_cast<std::size_t>(sample)).push_back(token);
    });
    return result;
  }

  Tokens tokens(const Tokens& prompt, std::int64_t count, double temperature, std::uint64_t seed) {
    return samples(cached_, {.prompt = prompt,
                             .max_tokens = count,
                             .sampler = {.temperature = temperature},
                             .seed = seed,
                             .end = std::nullopt})
        .at(0);
  }

  test::TestModel model_{
      {.config = {.layers = 1, .heads = 2, .channels = 16, .context = kPositions, .vocab = 40},
       .options = {.micro_batch = 1,
                   .seq_len = kPositions,
                   .precision = DType::fp32,
                   .recompute = Recompute::none,
                   .training = false}}};
  CachedDecoder cached_{model_.backend(), model_.model(), kMostSamplesAtOnce};
  RecomputingDecoder recomputing_{model_.model(), kMostSamplesAtOnce};
};

TEST_F(Generate, TakesItsOwnTokensAsInput) {
  const Tokens all = tokens({3}, 5, 0, 1);
  ASSERT_EQ(all.size(), 5u);
  Tokens prompt = {3};
  for (const std::int32_t token : all) {
    EXPECT_EQ(tokens(prompt, 1, 0, 1), Tokens{token});
    prompt.push_back(token);
  }
}

TEST_F(Generate, IsAFunctionOfTheSeed) {
  EXPECT_EQ(tokens({3}, 20, 1, 7), tokens({3}, 20, 1, 7));
  EXPECT_NE(tokens({3}, 20, 1, 7), tokens({3}, 20, 1, 8));
}

TEST_F(Generate, OfALongPromptTheEndIsSeen) {
  const auto next_tokens = [this](const Tokens& prompt) {
    Tokens result;
    for (std::uint64_t seed = 0; seed < 100; ++seed) {
      result.push_back(tokens(prompt, 1, 1, seed).at(0));
    }
    return result;
  };
  Tokens prompt = {7, 1, 2, 3, 4, 5, 6, 7, 8};  // one more than there are positions
  const Tokens expected = next_tokens(prompt);
  prompt[0] = 30;
  EXPECT_EQ(next_tokens(prompt), expected);
  prompt[1] = 30;
  EXPECT_NE(next_tokens(prompt), expected);
}

// The likeliest token after those that the rule lets the model see: all of 8 positions or, when a
// ninth is wanted, the newest 4 and the new one, then 6, 7, 8 of them, and again 5.
Tokens greedy(Gpt2& model, const Tokens& prompt, std::int64_t count) {
  Tokens all = prompt, made;
  const std::int64_t forgotten = std::max<std::int64_t>(0, std::ssize(prompt) - kPositions);
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t length = std::ssize(all) - forgotten;
    const std::int64_t seen = length <= kPositions ? length : 5 + (length - 9) % 4;
    const std::vector<float> logits = model.next_token_logits(
        std::span<const std::int32_t>(all).last(static_cast<std::size_t>(seen)));
    made.push_back(static_cast<std::int32_t>(std::ranges::max_element(logits) - logits.begin()));
    all.push_back(made.back());
  }
  return made;
}

TEST_F(Generate, ForgetsTheOlderHalfWhenAllPositionsAreTaken) {
  for (const Tokens& prompt : {Tokens{3}, Tokens{5, 9, 2, 8, 1, 7}, Tokens(8, 4), Tokens(13, 6)}) {
    const Tokens expected = greedy(model_.model(), prompt, 40);
    for (Decoder* decoder : std::initializer_list<Decoder*>{&cached_, &recomputing_}) {
      EXPECT_EQ(samples(*decoder, {.prompt = prompt,
                                   .max_tokens = 40,
                                   .sampler = {.temperature = 0},
                                   .seed = 1,
                                   .end = std::nullopt})
                    .at(0),
                expected);
    }
  }
}

// Beyond the positions, and beyond what is made at once.
TEST_F(Generate, ASampleIsTheSameHoweverManyThereAre) {
  SampleSpec spec{.prompt = {3, 1},
                  .samples = kMostSamplesAtOnce + 3,
                  .max_tokens = 30,
                  .sampler = {.temperature = 1, .top_k = 30, .top_p = 0.95},
                  .seed = 5,
                  .end = std::nullopt};
  const std::vector<Tokens> all = samples(cached_, spec);
  EXPECT_EQ(samples(recomputing_, spec), all);
  for (std::size_t s = 0; s < all.size(); ++s) {
    ASSERT_EQ(all[s].size(), 30u);
    for (std::size_t other = 0; other < s; ++other) EXPECT_NE(all[s], all[other]);
  }
  for (const std::int64_t count : {1, 2, 5, 9}) {
    spec.samples = count;
    EXPECT_EQ(samples(cached_, spec), std::vector<Tokens>(all.begin(), all.begin() + count));
  }
}

TEST_F(Generate, ASampleEndsAtTheEndAndTheOthersGoOn) {
  SampleSpec spec{.prompt = {3},
                  .samples = 4,
                  .max_tokens = 25,
                  .sampler = {.temperature = 1},
                  .seed = 5,
                  .end = std::nullopt};
  const std::vector<Tokens> endless = samples(cached_, spec);
  spec.end = endless[1][2];
  std::vector<Tokens> expected = endless;
  for (Tokens& made : expected) {
    const auto end = std::ranges::find(made, *spec.end);
    if (end != made.end()) made.erase(end + 1, made.end());
  }
  EXPECT_LE(expected[1].size(), 3u);
  EXPECT_NE(std::ranges::max(expected, {}, &Tokens::size).size(), expected[1].size());
  EXPECT_EQ(samples(cached_, spec), expected);
}

TEST_F(Generate, EndsAtAStopSignal) {
  watch_stop_signals();
  int emitted = 0;
  generate(cached_,
           {.prompt = {3},
            .max_tokens = 100,
            .sampler = {.temperature = 1},
            .seed = 5,
            .end = std::nullopt},
           [&](std::int64_t, std::int32_t) {
             if (++emitted == 4) std::raise(SIGUSR1);
           });
  EXPECT_EQ(emitted, 4);
  watch_stop_signals();
}

TEST(FirstToken, IsWhatStandsBeforeADocumentWhereThereIsRoom) {
  EXPECT_EQ(first_token(50257), 50256);
  EXPECT_EQ(first_token(50256), '\n');
  EXPECT_EQ(first_token(5), 4);
}

TEST(NumbersText, ShowsTokensThatStandForNothingKnown) {
  EXPECT_EQ(numbers_text({1, 50256}), "1 50256 ");
}

// The model of a folder that says nothing of a tokenizer, sampled by `lathe sample`.
class SampleCommand : public testing::Test {
 protected:
  void write(const test::PlainModel& model, std::optional<int> end_of_text) {
    test::write_hugging_face_folder(path_, model, {});
    auto json = test::hugging_face_config(model.config);
    json["eos_token_id"] = end_of_text ? nlohmann::json(*end_of_text) : nlohmann::json();
    folder_.write("hf/config.json", json.dump());
  }

  nlohmann::json sample(std::vector<std::string> arguments) const {
    arguments.insert(arguments.end(), {"--checkpoint", path_, "--json", "--device=cpu"});
    testing::internal::CaptureStdout();
    EXPECT_EQ(sample_command(parse_options(Command::sample, arguments, {})), 0);
    return test::parse_json(testing::internal::GetCapturedStdout()).at("samples").at(0);
  }

  // What the model finds likeliest behind tokens.
  std::int32_t likeliest(std::span<const std::int32_t> tokens) const {
    Options options = default_options();
    options.device = "cpu";
    const auto source = open_model(path_, Weights::in_use);
    const LoadedModel loaded =
        load_model(options, *source, {.micro_batch = 1, .seq_len = source->info().config.context});
    const std::vector<float> logits = loaded.model->next_token_logits(tokens);
    return static_cast<std::int32_t>(std::ranges::max_element(logits) - logits.begin());
  }

  test::TempDir folder_;
  std::string path_ = folder_ / "hf";
};

TEST_F(SampleCommand, BeginsAndEndsWithTheModelsOwnEndOfText) {
  const test::PlainModel model = test::random_plain_model(
      {.layers = 2, .heads = 2, .channels = 16, .context = 16, .vocab = 30}, 3);
  for (const int end : {7, 11, 29}) {
    write(model, end);
    EXPECT_EQ(sample({"--temperature=0", "--max-tokens=1"}).at("tokens"),
              nlohmann::json({likeliest(Tokens{end})}));
    const nlohmann::json ended = sample({"--temperature=1000", "--max-tokens=3000"});
    const Tokens tokens = ended.at("tokens");
    EXPECT_EQ(ended.at("ended_by"), "end_of_text");
    EXPECT_EQ(std::ranges::find(tokens, end), tokens.end() - 1);
    EXPECT_EQ(
        sample({"--temperature=1000", "--max-tokens=3000", "--no-stop-at-end"}).at("tokens").size(),
        3000u);
  }
  write(model, std::nullopt);
  EXPECT_EQ(sample({"--temperature=1000", "--max-tokens=3000"}).at("ended_by"), "max_tokens");
}

// The model's own, and not that of the tokenizer beside it.
TEST_F(SampleCommand, PrefersTheModelsEndOfTextToTheTokenizers) {
  const test::PlainModel model = test::random_plain_model(
      {.layers = 2, .heads = 2, .channels = 16, .context = 16, .vocab = 300}, 3);
  nlohmann::json vocab = {{"th", 256}, {"<|endoftext|>", 257}};
  for (const std::string& byte : byte_vocabulary().tokens) {
    vocab[symbols_of_bytes(byte)] = static_cast<unsigned char>(byte[0]);
  }
  folder_.write("hf/vocab.json", vocab.dump());
  folder_.write("hf/merges.txt", "t h\n");
  write(model, 9);
  const Tokens tokens = sample({"--temperature=1000", "--max-tokens=20000"}).at("tokens");
  EXPECT_EQ(tokens.back(), 9);
  write(model, std::nullopt);
  const Tokens others = sample({"--temperature=1000", "--max-tokens=20000"}).at("tokens");
  EXPECT_EQ(others.back(), 257);
}

// Of a model for which a token's place says most of the next one.
TEST_F(SampleCommand, SeesAllPositionsOfTheModel) {
  constexpr std::int32_t kFirst = 5;
  const ModelConfig config = {
      .layers = 1, .heads = 2, .channels = 16, .context = 1040, .vocab = 50};
  test::PlainModel model = test::random_plain_model(config, 3);
  for (float& value : model.parameters.at("position_embedding.weight")) value *= 64;
  write(model, kFirst);
  Tokens tokens = sample({"--temperature=0", "--max-tokens=1039", "--no-stop-at-end"}).at("tokens");
  tokens.insert(tokens.begin(), kFirst);
  for (std::size_t at = 1020; at < tokens.size(); ++at) {
    EXPECT_EQ(tokens[at], likeliest(std::span(tokens).first(at))) << at;
  }
}

// What comes out after each byte that goes in, and at the end.
std::vector<std::string> pieces(std::string_view bytes) {
  Utf8Stream stream;
  std::vector<std::string> result;
  for (std::size_t i = 0; i < bytes.size(); ++i) result.push_back(stream.take(bytes.substr(i, 1)));
  result.push_back(stream.finish());
  return result;
}

using Pieces = std::vector<std::string>;

TEST(Utf8Stream, PassesCharactersWhenTheyAreWhole) {
  EXPECT_EQ(pieces("a\xC3\xA9"
                   "b"),
            (Pieces{"a", "", "\xC3\xA9", "b", ""}));
  EXPECT_EQ(pieces("\xE2\x82\xAC"), (Pieces{"", "", "\xE2\x82\xAC", ""}));
  EXPECT_EQ(pieces("\xF0\x9F\x98\x80"), (Pieces{"", "", "", "\xF0\x9F\x98\x80", ""}));
  Utf8Stream stream;
  EXPECT_EQ(stream.take("ab\xE2\x82"), "ab");
  EXPECT_EQ(stream.take("\xAC"
                        "c\xC3"),
            "\xE2\x82\xAC"
            "c");
  EXPECT_EQ(stream.take(""), "");
  EXPECT_EQ(stream.finish(), "\xC3");
  EXPECT_EQ(stream.finish(), "");
}

// A byte that cannot go on with those before it lets them pass.
TEST(Utf8Stream, PassesBytesOfNoCharacterAsTheyAre) {
  EXPECT_EQ(pieces("\x80\xFF\xC0\xF5"), (Pieces{"\x80", "\xFF", "\xC0", "\xF5", ""}));
  EXPECT_EQ(pieces("\xE2\x82z"), (Pieces{"", "", "\xE2\x82z", ""}));
  EXPECT_EQ(pieces("\xE2\xC3\xA9"), (Pieces{"", "\xE2", "\xC3\xA9", ""}));
  EXPECT_EQ(pieces("\xE0\x80"), (Pieces{"", "\xE0\x80", ""}));  // overlong
  EXPECT_EQ(pieces("\xED\xA0"), (Pieces{"", "\xED\xA0", ""}));  // a surrogate
  EXPECT_EQ(pieces("\xF0\x80"), (Pieces{"", "\xF0\x80", ""}));
  EXPECT_EQ(pieces("\xF4\x90"), (Pieces{"", "\xF4\x90", ""}));  // above U+10FFFF
  EXPECT_EQ(pieces("\xF0\x9F\x98"), (Pieces{"", "", "", "\xF0\x9F\x98"}));
}

}  // namespace
}  // namespace lathe
