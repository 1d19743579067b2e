// The model and the optimizer against PyTorch in float64 (scripts/make_golden.py), every element of
// every tensor, in both precisions, with and without recomputation, the batch cut in several ways.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>
#include <tuple>

#include "lathe/bf16.h"
#include "support/compare.h"
#include "support/device_tensors.h"
#include "support/golden.h"
#include "support/reference.h"
#include "support/test_model.h"

namespace lathe::test {
namespace {

using reference::Doubles;

// Bounds for a tensor, so that no row and no element can be wrong: of its error's norm over the
// values' norm; of each row's error over (a row's root mean square norm + its own norm); of each
// element's error over (the root mean square of all + its own magnitude).
struct Tolerance {
  double norm, row, element;
};

// What rounding explains, in units of u, the largest relative error of one rounding. A logit or a
// gradient lies at the end of up to 50 rounded tensors, about 8 a block forward and as many back.
// Their errors of 0.4 u (root mean square) add up like a random walk, to 3 u; LayerNorm, softmax
// and sums over rows, where values cancel and errors do not, take gradients to two or three times
// that. The worst of 10^4 elements lies at five times the root mean square. What was measured is
// the most of 25 runs whose roundings were disturbed at random, as another processor would.
struct Tolerances {
  double loss;         // relative; a mean of some 50 losses, whose errors cancel
  double norm;         // of all gradients, relative
  Tolerance logits;    // forward alone
  Tolerance gradient;  // its norm also bounds the key bias's against its neighbours
  Tolerance final;     // parameters after ten steps
  double movement;     // error of the change of each row over ten steps, over the change
};

// Measured, in u: loss 1.4; norm 5; logits 6, 6, 33; gradient 15, 16, 72. Adam divides a gradient
// by its own size: an element whose gradient happens to be nearly zero has a step, of some 1e-3,
// that is less certain, by up to 9e-5 of its magnitude. That is 1.6e-6 in its tensor's norm, 9e-6
// in its row's and 5e-4 of the row's movement.
constexpr double kFp32 = 0x1p-24;
constexpr Tolerances kFp32Tolerances = {
    .loss = 4 * kFp32,
    .norm = 12 * kFp32,
    .logits = {.norm = 10 * kFp32, .row = 10 * kFp32, .element = 50 * kFp32},
    .gradient = {.norm = 24 * kFp32, .row = 24 * kFp32, .element = 112 * kFp32},
    .final = {.norm = 3e-6, .row = 3e-5, .element = 3e-4},
    .movement = 2e-3};

// Measured, in u: loss 0.7; norm 4; logits 3.3, 3.8, 18; gradient 10, 8, 43; final 1.6, 1.4, 17.
// Parameters move by 1 % (biases 10 %) in ten steps, and Adam's steps have the relative errors of
// single gradients: 15 % of a row's movement.
constexpr double kBf16 = 0x1p-9;
constexpr Tolerances kBf16Tolerances = {
    .loss = 1.2 * kBf16,
    .norm = 7 * kBf16,
    .logits = {.norm = 5 * kBf16, .row = 6 * kBf16, .element = 28 * kBf16},
    .gradient = {.norm = 15 * kBf16, .row = 12 * kBf16, .element = 64 * kBf16},
    .final = {.norm = 3 * kBf16, .row = 3 * kBf16, .element = 32 * kBf16},
    .movement = 0.25};

double square_sum(std::span<const double> x) {
  return std::inner_product(x.begin(), x.end(), x.begin(), 0.0);
}

testing::AssertionResult near_everywhere(const std::vector<float>& actual, const Doubles& expected,
                                         std::size_t row_length, const Tolerance& tolerance) {
  if (auto norm = near_in_norm(actual, expected, tolerance.norm); !norm) return norm;
  if (auto rows = near_in_rows(actual, expected, row_length, tolerance.row); !rows) return rows;
  const double mean_square = square_sum(expected) / static_cast<double>(expected.size());
  return near_each(actual, expected, tolerance.element * std::sqrt(mean_square), tolerance.element);
}

testing::AssertionResult moved_alike(const std::vector<float>& initial,
                                     const std::vector<float>& actual, const Doubles& expected,
                                     std::size_t row_length, double tolerance) {
  for (std::size_t row = 0; row < actual.size(); row += row_length) {
    double error = 0, movement = 0;
    for (std::size_t i = row; i < row + row_length; ++i) {
      error += std::pow(actual[i] - expected[i], 2);
      movement += std::pow(expected[i] - double{initial[i]}, 2);
    }
    if (!(std::sqrt(error) <= tolerance * std::sqrt(movement))) {
      return testing::AssertionFailure()
             << "row " << row / row_length << " moved by " << std::sqrt(movement)
             << ", with an error of " << std::sqrt(error);
    }
  }
  return testing::AssertionSuccess();
}

// Elements of a row of a matrix; a vector is one row.
std::size_t row_length(const ParameterSpec& spec, std::size_t count) {
  return spec.shape.size() == 1 ? count : static_cast<std::size_t>(spec.shape[1]);
}

bool is_qkv_bias(const ParameterSpec& spec) {
  return spec.name.ends_with("attention.qkv.bias");
}

// Cuts the key's third out of a qkv bias. Its gradient is zero: a constant added to all keys adds
// the same to all scores of a query, which the softmax takes away again. What is computed is
// rounding, and Adam makes full steps of it, without any effect.
template <class T>
std::vector<T> without_key(const std::vector<T>& bias) {
  const auto C = static_cast<std::ptrdiff_t>(bias.size() / 3);
  std::vector<T> rest(bias.begin(), bias.begin() + C);
  rest.insert(rest.end(), bias.begin() + 2 * C, bias.end());
  return rest;
}

std::vector<float> key_of(const std::vector<float>& bias) {
  const auto C = static_cast<std::ptrdiff_t>(bias.size() / 3);
  return {bias.begin() + C, bias.begin() + 2 * C};
}

using Parameter = std::tuple<const char*, DType, Recompute>;

class Golden : public testing::TestWithParam<Parameter> {
 protected:
  TestModel make_model(std::int64_t micro_batch) const {
    return TestModel({.config = golden_.config,
                      .options = {.micro_batch = micro_batch,
                                  .seq_len = golden_.seq_len,
                                  .precision = precision_,
                                  .recompute = std::get<2>(GetParam()),
                                  .training = true},
                      .adamw = golden_.adamw});
  }

  void set_initial(TestModel& model) const {
    for (const ParameterSpec& spec : model.specs()) model.set(spec, golden_.initial.at(spec.name));
    model.publish();
  }

  // Ways to cut a step into micro-batches of at most `most` sequences.
  std::vector<std::vector<std::int64_t>> cuts(std::int64_t most) const {
    std::vector<std::vector<std::int64_t>> result;
    for (std::int64_t size = most; size >= 1; --size) {
      std::vector<std::int64_t> cut(static_cast<std::size_t>(golden_.rows / size), size);
      if (golden_.rows % size != 0) cut.push_back(golden_.rows % size);
      result.push_back(cut);
      result.emplace_back(cut.rbegin(), cut.rend());
    }
    return result;
  }

  void expect_gradients(TestModel& model) const {
    for (const ParameterSpec& spec : model.specs()) {
      SCOPED_TRACE(spec.name);
      const std::vector<float> actual = model.values(spec, model.model().gradients());
      const std::vector<float>& expected = golden_.gradient.at(spec.name);
      if (!is_qkv_bias(spec)) {
        EXPECT_TRUE(near_everywhere(actual, reference::widen(expected),
                                    row_length(spec, actual.size()), tolerances_.gradient));
        continue;
      }
      const Doubles others = reference::widen(without_key(expected));
      EXPECT_TRUE(
          near_everywhere(without_key(actual), others, others.size(), tolerances_.gradient));
      const double scale = std::sqrt(square_sum(others) / static_cast<double>(others.size()));
      const std::vector<float> key = key_of(actual);
      EXPECT_TRUE(near_each(key, Doubles(key.size()), tolerances_.gradient.norm * scale, 0));
    }
  }

  void expect_final_parameters(TestModel& model) const {
    for (const ParameterSpec& spec : model.specs()) {
      SCOPED_TRACE(spec.name);
      std::vector<float> actual = model.values(spec, model.adamw().master());
      std::vector<float> initial = golden_.initial.at(spec.name);
      std::vector<float> expected = golden_.final.at(spec.name);
      if (is_qkv_bias(spec)) {
        for (auto* values : {&actual, &initial, &expected}) *values = without_key(*values);
      }
      const Doubles wide = reference::widen(expected);
      const std::size_t length = row_length(spec, actual.size());
      EXPECT_TRUE(near_everywhere(actual, wide, length, tolerances_.final));
      EXPECT_TRUE(moved_alike(initial, actual, wide, length, tolerances_.movement));
    }
  }

  const GoldenCase golden_ =
      read_golden(std::string(LATHE_GOLDEN_DIR "/") + std::get<0>(GetParam()) + ".safetensors");
  const DType precision_ = std::get<1>(GetParam());
  const Tolerances& tolerances_ = precision_ == DType::fp32 ? kFp32Tolerances : kBf16Tolerances;
};

TEST_P(Golden, Logits) {
  TestModel model = make_model(1);
  set_initial(model);
  std::vector<float> actual;
  for (std::int64_t row = 0; row < golden_.rows; ++row) {
    const Batch batch = golden_.batch(0, row, 1);
    for (std::size_t length = 1; length <= batch.tokens.size(); ++length) {
      const auto logits = model.model().next_token_logits(batch.tokens.first(length));
      actual.insert(actual.end(), logits.begin(), logits.end());
    }
  }
  EXPECT_TRUE(near_everywhere(actual, reference::widen(golden_.logits),
                              static_cast<std::size_t>(golden_.config.vocab), tolerances_.logits));
}

TEST_P(Golden, LossOfForwardAlone) {
  TestModel model = make_model(golden_.rows);
  set_initial(model);
  model.model().forward(golden_.batch(0, 0, golden_.rows));
  const std::vector<float> losses = model.model().losses();
  const double loss =
      std::accumulate(losses.begin(), losses.end(), 0.0) / static_cast<double>(losses.size());
  EXPECT_NEAR(loss, golden_.losses[0], tolerances_.loss * golden_.losses[0]);
}

TEST_P(Golden, LossAndGradientsHoweverTheBatchIsCut) {
  for (const std::int64_t micro_batch : {golden_.rows, golden_.rows - 1}) {
    TestModel model = make_model(micro_batch);
    set_initial(model);
    for (const std::vector<std::int64_t>& cut : cuts(micro_batch)) {
      SCOPED_TRACE(testing::PrintToString(cut));
      const double loss = model.forward_backward(golden_.batch(0, 0, golden_.rows), cut);
      EXPECT_NEAR(loss, golden_.losses[0], tolerances_.loss * golden_.losses[0]);
      expect_gradients(model);
    }
  }
}

TEST_P(Golden, TenSteps) {
  TestModel model = make_model(golden_.rows);
  set_initial(model);
  const auto ways = cuts(golden_.rows);
  for (std::int64_t step = 0; step < golden_.steps(); ++step) {
    SCOPED_TRACE(testing::Message() << "step " << step);
    const auto at = static_cast<std::size_t>(step);
    const double loss =
        model.forward_backward(golden_.batch(step, 0, golden_.rows), ways[at % ways.size()]);
    EXPECT_NEAR(loss, golden_.losses[at], tolerances_.loss * golden_.losses[at]);
    const AdamW::Sums sums = model.update(step + 1, golden_.learning_rates[at]);
    EXPECT_NEAR(sums.gradient_norm, golden_.norms[at], tolerances_.norm * golden_.norms[at]);
  }
  expect_final_parameters(model);
  for (const ParameterSpec& spec : model.specs()) {
    EXPECT_EQ(model.values(spec, model.model().parameters()),
              rounded_to(precision_, model.values(spec, model.adamw().master())))
        << spec.name;
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, Golden,
                         testing::Combine(testing::Values("odd", "one_head", "deep"),
                                          testing::Values(DType::fp32, DType::bf16),
                                          testing::Values(Recompute::none, Recompute::block)),
                         [](const testing::TestParamInfo<Parameter>& test) {
                           return std::string(std::get<0>(test.param)) + "_" +
                                  to_string(std::get<1>(test.param)) +
                                  (std::get<2>(test.param) == Recompute::block ? "_recompute" : "");
                         });

}  // namespace
}  // namespace lathe::test
