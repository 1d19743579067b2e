// Properties of the model as a whole, most of them by bits: what must not change a result does not
// change it at all. That the results are right is golden_test's.
#include "lathe/model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "support/compare.h"
#include "support/device_tensors.h"
#include "support/reference.h"
#include "support/test_device.h"
#include "support/test_model.h"

namespace lathe::test {
namespace {

using Bytes = std::vector<std::byte>;

// Odd in every way: C is no multiple of a vector or of the 64 elements that tensors begin at, V
// none of the padding; a block between the first and the last.
constexpr ModelConfig kConfig = {
    .layers = 3, .heads = 2, .channels = 24, .context = 20, .vocab = 150};

TestModel make_model(const ModelConfig& config, const ModelOptions& options, int threads = 1) {
  TestModel model({.config = config, .options = options, .threads = threads});
  model.initialize(7, 4);  // larger than GPT-2's, to be far from uniform guesses
  return model;
}

class Model : public testing::TestWithParam<DType> {
 protected:
  ModelOptions options(std::int64_t micro_batch, std::int64_t seq_len) const {
    return {.micro_batch = micro_batch,
            .seq_len = seq_len,
            .precision = GetParam(),
            .recompute = Recompute::none,
            .training = true};
  }
};

Bytes gradient_bytes(TestModel& model) {
  return to_bytes(model.backend(), model.model().gradients());
}

TEST_P(Model, RecomputationGivesTheSameBits) {
  const RandomTokens tokens(4, 13, kConfig.vocab, 1);
  TestModel kept = make_model(kConfig, options(3, 13));
  ModelOptions recomputing = options(3, 13);
  recomputing.recompute = Recompute::block;
  TestModel recomputed = make_model(kConfig, recomputing);
  const std::vector<std::int64_t> cuts = {3, 1};
  EXPECT_EQ(kept.forward_backward(tokens.batch(), cuts),
            recomputed.forward_backward(tokens.batch(), cuts));
  EXPECT_TRUE(same_bits(gradient_bytes(recomputed), gradient_bytes(kept)));
  EXPECT_EQ(recomputed.model().losses(), kept.model().losses());
}

TEST_P(Model, NothingOfEarlierCallsIsLeft) {
  const RandomTokens tokens(3, 13, kConfig.vocab, 1), others(4, 20, kConfig.vocab, 2);
  TestModel fresh = make_model(kConfig, options(4, 20));
  const double loss = fresh.forward_backward(tokens.batch());

  TestModel used = make_model(kConfig, options(4, 20));
  used.forward_backward(others.batch());
  used.model().forward(others.batch());
  for (const ParameterSpec& spec : used.specs()) {
    used.backend().run(Fill{.out = used.model().gradients().slice(spec.offset, spec.padded_count()),
                            .value = std::numeric_limits<float>::quiet_NaN()});
  }
  EXPECT_EQ(used.forward_backward(tokens.batch()), loss);
  EXPECT_TRUE(same_bits(gradient_bytes(used), gradient_bytes(fresh)));
  EXPECT_EQ(used.forward_backward(tokens.batch()), loss);
  EXPECT_TRUE(same_bits(gradient_bytes(used), gradient_bytes(fresh)));
}

TEST_P(Model, OtherCallsLeaveGradientsAndLossSum) {
  const RandomTokens tokens(4, 20, kConfig.vocab, 1), others(3, 7, kConfig.vocab, 2);
  TestModel model = make_model(kConfig, options(4, 20));
  model.forward_backward(tokens.batch());
  const float sum = model.loss_sum();
  const Bytes gradients = gradient_bytes(model);
  model.model().forward(others.batch());
  model.model().next_token_logits(std::span(others.tokens).first(5));
  EXPECT_EQ(model.loss_sum(), sum);
  EXPECT_TRUE(same_bits(gradient_bytes(model), gradients));
}

TEST_P(Model, ForwardAloneGivesTheSameLosses) {
  const RandomTokens tokens(4, 13, kConfig.vocab, 1);
  TestModel trained = make_model(kConfig, options(4, 13));
  trained.forward_backward(tokens.batch());
  TestModel evaluated = make_model(kConfig, options(4, 13));
  evaluated.model().forward(tokens.batch());
  EXPECT_EQ(evaluated.model().losses(), trained.model().losses());
}

// The model of eval and sample keeps no activations: its blocks share memory.
TEST_P(Model, WithoutTrainingGivesTheSameLosses) {
  const RandomTokens tokens(4, 13, kConfig.vocab, 1);
  TestModel trained = make_model(kConfig, options(4, 13));
  trained.forward_backward(tokens.batch());
  const std::unique_ptr<Backend> backend = make_test_backend(1);
  ModelOptions forward_only = options(4, 13);
  forward_only.training = false;
  Gpt2 evaluated(*backend, kConfig, forward_only);
  const Bytes parameters = to_bytes(trained.backend(), trained.model().parameters());
  backend->upload(evaluated.parameters(), parameters.data());
  evaluated.forward(tokens.batch());
  EXPECT_EQ(evaluated.losses(), trained.model().losses());
}

// As in the last batch of a validation, or with a shorter prompt.
TEST_P(Model, SmallerBatchIsThatOfASmallerModel) {
  const RandomTokens tokens(2, 9, kConfig.vocab, 1);
  TestModel exact = make_model(kConfig, options(2, 9));
  TestModel large = make_model(kConfig, options(5, 20));
  EXPECT_EQ(large.forward_backward(tokens.batch()), exact.forward_backward(tokens.batch()));
  EXPECT_EQ(large.model().losses(), exact.model().losses());
  EXPECT_EQ(large.model().losses().size(), 18u);
  EXPECT_TRUE(same_bits(gradient_bytes(large), gradient_bytes(exact)));
}

TEST_P(Model, LossesDependOnEarlierTokensAlone) {
  RandomTokens tokens(2, 13, kConfig.vocab, 1);
  TestModel model = make_model(kConfig, options(2, 13));
  model.model().forward(tokens.batch());
  const std::vector<float> before = model.model().losses();
  constexpr std::size_t kChanged = 8;  // in the first sequence
  tokens.tokens[kChanged] = (tokens.tokens[kChanged] + 1) % 150;
  model.model().forward(tokens.batch());
  const std::vector<float> after = model.model().losses();
  for (std::size_t i = 0; i < before.size(); ++i) {
    if (i < kChanged || i >= 13) {
      EXPECT_EQ(after[i], before[i]) << i;
    } else {
      EXPECT_NE(after[i], before[i]) << i;
    }
  }
}

TEST_P(Model, PaddingStaysZero) {
  const RandomTokens tokens(4, 13, kConfig.vocab, 1);
  TestModel model = make_model(kConfig, options(4, 13));
  for (std::int64_t step = 1; step <= 3; ++step) {
    model.forward_backward(tokens.batch(), std::vector<std::int64_t>{1, 3});
    model.update(step, 0.01);
  }
  const auto flat_count = static_cast<std::size_t>(parameter_memory_count(model.specs()));
  std::vector<bool> is_padding(flat_count, true);
  for (const ParameterSpec& spec : model.specs()) {
    std::fill_n(is_padding.begin() + spec.offset, spec.count(), false);
  }
  ASSERT_GT(std::count(is_padding.begin(), is_padding.end(), true), 106 * 24);
  for (const Tensor& tensor : {model.model().parameters(), model.model().gradients(),
                               model.adamw().m(), model.adamw().v(), model.adamw().master()}) {
    const std::vector<float> values = to_floats(model.backend(), tensor);
    for (std::size_t i = 0; i < flat_count; ++i) {
      if (is_padding[i]) {
        ASSERT_EQ(values[i], 0) << i;
      }
    }
  }
}

TEST_P(Model, ThreadsDoNotChangeTrainingSteps) {
  const ModelConfig config = {.layers = 2, .heads = 2, .channels = 64, .context = 64, .vocab = 300};
  const auto train = [&](int threads) {
    TestModel model = make_model(config, options(3, 48), threads);
    for (std::int64_t step = 1; step <= 2; ++step) {
      const RandomTokens tokens(4, 48, config.vocab, static_cast<std::uint64_t>(step));
      model.forward_backward(tokens.batch(), std::vector<std::int64_t>{3, 1});
      model.update(step, 0.01);
    }
    return model.state_bytes();
  };
  const Bytes expected = train(1);
  for (const int threads : {2, 3}) {
    EXPECT_TRUE(same_bits(train(threads), expected)) << threads << " threads";
  }
}

INSTANTIATE_TEST_SUITE_P(Types, Model, testing::Values(DType::fp32, DType::bf16),
                         [](const auto& test) { return to_string(test.param); });

constexpr ModelOptions kFp32 = {.micro_batch = 4,
                                .seq_len = 12,
                                .precision = DType::fp32,
                                .recompute = Recompute::none,
                                .training = true};

// With GPT-2's vocabulary the head has room for 320 rows at a time: 750 make three chunks, and cut
// two of the sequences. One sequence at a time is one chunk.
TEST(ModelHead, ChunksDoNotChangeTheResult) {
  const ModelConfig config = {
      .layers = 1, .heads = 1, .channels = 8, .context = 250, .vocab = 50257};
  ModelOptions options = kFp32;
  options.micro_batch = 3;
  options.seq_len = 250;
  Arena measure;
  const Tensor logits = lay_out_activations(measure, config, options, 3, 250).logits;
  ASSERT_EQ(logits.size(0), 320);

  const RandomTokens tokens(3, 250, config.vocab, 1);
  TestModel model = make_model(config, options);
  const double loss = model.forward_backward(tokens.batch());
  const std::vector<float> losses = model.model().losses();
  std::vector<std::vector<float>> gradients;
  for (const ParameterSpec& spec : model.specs()) {
    gradients.push_back(model.values(spec, model.model().gradients()));
  }
  model.model().forward(tokens.batch());
  EXPECT_EQ(model.model().losses(), losses);

  // Sums of other order: roundings of 6e-8, a few in the loss and up to fifty in a gradient.
  EXPECT_NEAR(model.forward_backward(tokens.batch(), std::vector<std::int64_t>{1, 1, 1}), loss,
              3e-7 * loss);
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    const ParameterSpec& spec = model.specs()[i];
    if (spec.name.ends_with("qkv.bias")) continue;  // of the key: zero, so nothing but rounding
    EXPECT_TRUE(near_in_norm(model.values(spec, model.model().gradients()),
                             reference::widen(gradients[i]), 3e-6))
        << spec.name;
  }
  const auto last = std::span(losses).last(250);
  EXPECT_TRUE(near_each(model.model().losses(), reference::widen(last), 0, 1e-6));
}

// The loss along one direction for each parameter: half the gradient's own, half random.
TEST(ModelGradient, IsTheSlopeOfTheLoss) {
  const ModelConfig config = {.layers = 2, .heads = 2, .channels = 16, .context = 12, .vocab = 37};
  TestModel model = make_model(config, kFp32);
  const RandomTokens tokens(4, 12, config.vocab, 1);
  model.forward_backward(tokens.batch());
  const auto normalised = [](std::vector<float> x) {
    const double norm = std::sqrt(std::inner_product(x.begin(), x.end(), x.begin(), 0.0));
    for (float& value : x) value = static_cast<float>(value / norm);
    return x;
  };
  std::uint64_t seed = 0;
  for (const ParameterSpec& spec : model.specs()) {
    const std::vector<float> gradient = model.values(spec, model.model().gradients());
    const std::vector<float> start = model.values(spec, model.adamw().master());
    const std::vector<float> along = normalised(gradient);
    const std::vector<float> across = normalised(normal_floats(spec.count(), ++seed));
    const auto loss_at = [&](float distance) {
      std::vector<float> moved = start;
      for (std::size_t i = 0; i < moved.size(); ++i) moved[i] += distance * (along[i] + across[i]);
      model.set(spec, moved);
      model.model().forward(tokens.batch());
      const std::vector<float> losses = model.model().losses();
      return std::accumulate(losses.begin(), losses.end(), 0.0) /
             static_cast<double>(losses.size());
    };
    constexpr float kStep = 0.01f;
    // Of fourth order: its own error is about kStep^4 times a derivative of up to 1000, that of the
    // losses' rounding 1e-7 / kStep; both are 1e-5.
    const double slope =
        (8 * (loss_at(kStep) - loss_at(-kStep)) - (loss_at(2 * kStep) - loss_at(-2 * kStep))) /
        (12 * double{kStep});
    model.set(spec, start);
    double expected = 0;
    for (std::size_t i = 0; i < gradient.size(); ++i) {
      expected += double{gradient[i]} * (along[i] + across[i]);
    }
    EXPECT_NEAR(slope, expected, 5e-5) << spec.name;
    EXPECT_GT(std::abs(expected), 5e-3) << spec.name << ": too flat to tell";
  }
}

TEST(ModelOptimizer, DecaysMatricesAndEmbeddingsOnly) {
  TestModel model = make_model(kConfig, kFp32);
  for (const ParameterSpec& spec : model.specs()) {
    const bool is_matrix = spec.shape.size() == 2;
    EXPECT_EQ(spec.decays, is_matrix) << spec.name;
    const auto& ranges = model.adamw().decayed();
    const auto holds = [&](std::int64_t element) {
      return std::any_of(ranges.begin(), ranges.end(), [&](const ElementRange& range) {
        return range.begin <= element && element < range.end;
      });
    };
    EXPECT_EQ(holds(spec.offset), is_matrix) << spec.name;
    EXPECT_EQ(holds(spec.offset + spec.count() - 1), is_matrix) << spec.name;
  }
}

}  // namespace
}  // namespace lathe::test
