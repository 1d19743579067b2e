// Decoding with keys and values kept, against the model run on all tokens (golden_test has that
// from PyTorch).
#include "lathe/decoder.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "support/compare.h"
#include "support/error_of.h"
#include "support/reference.h"
#include "support/test_device.h"
#include "support/test_model.h"

namespace lathe::test {
namespace {

using Tokens = std::vector<std::int32_t>;

// Odd in every way; and one with more positions than blocks of keys and of queries have.
constexpr ModelConfig kSmall = {
    .layers = 3, .heads = 2, .channels = 26, .context = 20, .vocab = 150};
constexpr ModelConfig kLong = {
    .layers = 2, .heads = 4, .channels = 128, .context = 300, .vocab = 70};

struct Case {
  ModelConfig config;
  DType precision;
};

class DecoderAt : public testing::TestWithParam<Case> {
 protected:
  DecoderAt() { model_.initialize(7, /*scale=*/4); }  // far from uniform guesses

  // A sequence of its own for each seed.
  Tokens tokens(std::int64_t count, std::uint64_t seed) const {
    return RandomTokens(1, count, GetParam().config.vocab, seed).tokens;
  }

  // The logits of two ways to add up differ by the rounding of sums: a few 1e-7 of the residual
  // stream for each of its additions. bf16 rounds what flows to 2^-9 of itself, six times in a
  // block (the last of them probabilities, which a query that attends alone does not round) and
  // once for the logits, and what follows may make more of it: half as much again.
  void expect_near(std::span<const float> actual, const std::vector<float>& expected) const {
    const Case& c = GetParam();
    if (c.precision == DType::fp32) {
      EXPECT_TRUE(near_each(actual, reference::widen(expected), 1e-5, 1e-5));
      return;
    }
    const auto roundings = static_cast<double>(6 * c.config.layers + 1);
    EXPECT_TRUE(near_in_norm(actual, reference::widen(expected), std::sqrt(roundings) * 0x1.8p-9));
  }

  std::vector<float> expected(const Tokens& all) { return model_.model().next_token_logits(all); }

  std::int64_t context() const { return GetParam().config.context; }
  std::size_t vocab() const { return static_cast<std::size_t>(GetParam().config.vocab); }

  TestModel model_{{.config = GetParam().config,
                    .options = {.micro_batch = 1,
                                .seq_len = GetParam().config.context,
                                .precision = GetParam().precision,
                                .recompute = Recompute::none,
                                .training = false}}};
};

TEST_P(DecoderAt, GivesTheLogitsOfAllTokensAtOnce) {
  CachedDecoder decoder(model_.backend(), model_.model(), 1);
  for (const std::int64_t prompt : {std::int64_t{1}, std::int64_t{7}, context()}) {
    const Tokens all = tokens(context(), 1);
    const auto first = [&](std::int64_t count) { return Tokens(all.begin(), all.begin() + count); };
    expect_near(decoder.begin(0, 1, first(prompt)), expected(first(prompt)));
    const std::int64_t stride = context() > 20 ? 23 : is_simulated() ? 5 : 1;
    for (std::int64_t length = prompt + 1; length <= context(); ++length) {
      const std::vector<float> logits =
          decoder.append(std::span(all).subspan(static_cast<std::size_t>(length - 1), 1));
      if (length % stride == 0) expect_near(logits, expected(first(length)));
    }
  }
}

// Three that share a prompt and go different ways, and then begin anew one by one.
TEST_P(DecoderAt, KeepsSequencesApart) {
  constexpr std::int64_t kCount = 3;
  CachedDecoder decoder(model_.backend(), model_.model(), kCount);
  std::vector<Tokens> all(kCount, tokens(5, 1));
  const auto expect_rows = [&](const std::vector<float>& logits) {
    ASSERT_EQ(logits.size(), kCount * vocab());
    for (std::size_t s = 0; s < all.size(); ++s) {
      expect_near(std::span(logits).subspan(s * vocab(), vocab()), expected(all[s]));
    }
  };
  const auto step = [&](std::uint64_t seed) {
    const Tokens next = tokens(kCount, seed);
    for (std::size_t s = 0; s < all.size(); ++s) all[s].push_back(next[s]);
    expect_rows(decoder.append(next));
  };
  const std::vector<float> shared = decoder.begin(0, kCount, all[0]);
  expect_near(shared, expected(all[0]));
  for (std::uint64_t seed = 2; seed < 7; ++seed) step(seed);
  std::vector<float> rows;
  for (std::size_t s = 0; s < all.size(); ++s) {
    all[s] = tokens(9, 10 + s);
    const std::vector<float> row = decoder.begin(static_cast<std::int64_t>(s), 1, all[s]);
    rows.insert(rows.end(), row.begin(), row.end());
  }
  expect_rows(rows);
  for (std::uint64_t seed = 20; seed < 23; ++seed) step(seed);
}

TEST_P(DecoderAt, FewerTokensLetTheFirstSequencesGrow) {
  CachedDecoder decoder(model_.backend(), model_.model(), 3);
  Tokens all = tokens(4, 1);
  decoder.begin(0, 2, all);
  all.push_back(5);
  const std::vector<float> logits = decoder.append(Tokens{5, 6});
  ASSERT_EQ(logits.size(), 2 * vocab());
  expect_near(std::span(logits).first(vocab()), expected(all));
}

TEST_P(DecoderAt, RecomputingGivesTheVeryLogits) {
  RecomputingDecoder decoder(model_.model(), 2);
  Tokens all = tokens(4, 1);
  EXPECT_EQ(decoder.begin(0, 2, all), expected(all));
  const std::vector<float> logits = decoder.append(Tokens{5, 6});
  for (std::size_t s = 0; s < 2; ++s) {
    Tokens grown = all;
    grown.push_back(s == 0 ? 5 : 6);
    const auto row = std::span(logits).subspan(s * vocab(), vocab());
    EXPECT_EQ(std::vector<float>(row.begin(), row.end()), expected(grown));
  }
}

INSTANTIATE_TEST_SUITE_P(Models, DecoderAt,
                         testing::Values(Case{kSmall, DType::fp32}, Case{kSmall, DType::bf16},
                                         Case{kLong, DType::fp32}, Case{kLong, DType::bf16}),
                         [](const auto& test) {
                           return std::string(test.param.config.context == 20 ? "Small" : "Long") +
                                  to_string(test.param.precision);
                         });

class Decoders : public testing::Test {
 protected:
  Decoders() { model_.initialize(1); }

  TestModel model_{{.config = kSmall,
                    .options = {.micro_batch = 1,
                                .seq_len = 20,
                                .precision = DType::fp32,
                                .recompute = Recompute::none,
                                .training = false}}};
};

TEST_F(Decoders, RefuseWhatTheyHaveNoRoomFor) {
  CachedDecoder decoder(model_.backend(), model_.model(), 2);
  const std::string no_room = "exit 1: Gpt2: a continuation that its sequences have no room for";
  decoder.begin(0, 2, Tokens(20, 1));
  EXPECT_EQ(error_of([&] { decoder.append(Tokens{1, 2}); }), no_room);
  EXPECT_EQ(error_of([&] { decoder.begin(0, 1, Tokens(21, 1)); }), no_room);
  decoder.begin(0, 1, Tokens(3, 1));
  decoder.begin(1, 1, Tokens(4, 1));
  EXPECT_EQ(error_of([&] {
              decoder.append(Tokens{1, 2});
            }),
            "exit 1: Decoder: sequences of different lengths cannot grow at once");
}

// Keys and values of 3 layers, 2 sequences, 20 positions of 26 channels, each tensor in whole 256
// bytes.
TEST_F(Decoders, TakeTheirMemoryAtOnce) {
  EXPECT_EQ(CachedDecoder::memory_bytes(kSmall, model_.model().options(), 2), 2 * 3 * 4352);
}

}  // namespace
}  // namespace lathe::test
