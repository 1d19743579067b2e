// The model and the optimizer against PyTorch in float64 (scripts/make_golden.py), every element of
// every tensor, in both precisions, with and without recomputation, the batch cut in several ways.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
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

// Of a tensor: `norm` bounds the norm of the error over that of the values, `element` every
// element's error over (the values' root mean square + its own magnitude), so that no row, column
// or element can be wrong.
struct Tolerance {
  double norm, element;
};

// What rounding explains, in units of a rounding error's bound u. A logit or a gradient is the end
// of a path of up to 50 rounded tensors (about 8 a block forward and as many backward); their
// errors have a root mean square of 0.4 u each and add up like a random walk, to 3 u, and
// LayerNorm and softmax, which subtract, up to double that. The worst of 10^4 elements is at five
// times the root mean square.
struct Tolerances {
  double loss;         // relative; it is the mean of some 50 losses, whose errors cancel
  double norm;         // of gradients, relative
  Tolerance logits;    // forward only
  Tolerance gradient;  // and, in the norm alone, the key bias's against its neighbours
  Tolerance final;     // parameters after ten steps
  double movement;     // of those: error of each row's change over the change
};

// fp32, u = 2^-24 = 6e-8; measured at most: loss 1.5 u, logits 6 u, gradients 12 u, elements 64 u.
// Adam divides a gradient by its own size, so an element whose gradient is near zero may be off by
// a larger part of its step of 1e-3: that is 7e-7 in the norm and 4e-5 in the element.
constexpr double kFp32 = 0x1p-24;
constexpr Tolerances kFp32Tolerances = {.loss = 5 * kFp32,
                                        .norm = 16 * kFp32,
                                        .logits = {.norm = 12 * kFp32, .element = 40 * kFp32},
                                        .gradient = {.norm = 24 * kFp32, .element = 128 * kFp32},
                                        .final = {.norm = 3e-6, .element = 1e-4},
                                        .movement = 1e-3};

// bf16, u = 2^-9 = 0.002; measured at most: loss 0.5 u, norm 4 u, logits 3.3 u, gradients 6 u,
// elements 27 u. Parameters change by about 1 % in ten steps, and that change has an error of up to
// 18 u in the norm of a tensor: Adam gives an element of small gradient the same weight as others.
constexpr double kBf16 = 0x1p-9;
constexpr Tolerances kBf16Tolerances = {.loss = kBf16,
                                        .norm = 8 * kBf16,
                                        .logits = {.norm = 5 * kBf16, .element = 24 * kBf16},
                                        .gradient = {.norm = 8 * kBf16, .element = 40 * kBf16},
                                        .final = {.norm = 2 * kBf16, .element = 0.05},
                                        .movement = 0.25};

testing::AssertionResult near_everywhere(const std::vector<float>& actual, const Doubles& expected,
                                         Tolerance tolerance) {
  if (auto norm = near_in_norm(actual, expected, tolerance.norm); !norm) return norm;
  const double square_sum =
      std::inner_product(expected.begin(), expected.end(), expected.begin(), 0.0);
  const double rms = std::sqrt(square_sum / static_cast<double>(expected.size()));
  return near_each(actual, expected, tolerance.element * rms, tolerance.element);
}

// The change of each row of a matrix; a vector is one row.
testing::AssertionResult moved_alike(const ParameterSpec& spec, const std::vector<float>& initial,
                                     const std::vector<float>& actual, const Doubles& expected,
                                     double tolerance) {
  const std::size_t length =
      spec.shape.size() == 1 ? actual.size() : static_cast<std::size_t>(spec.shape[1]);
  for (std::size_t row = 0; row < actual.size(); row += length) {
    double error = 0, movement = 0;
    for (std::size_t i = row; i < row + length; ++i) {
      error += std::pow(actual[i] - expected[i], 2);
      movement += std::pow(expected[i] - double{initial[i]}, 2);
    }
    if (!(error <= tolerance * tolerance * movement)) {
      return testing::AssertionFailure()
             << "row " << row / length << " moved by " << std::sqrt(movement)
             << ", with an error of " << std::sqrt(error);
    }
  }
  return testing::AssertionSuccess();
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
        EXPECT_TRUE(near_everywhere(actual, reference::widen(expected), tolerances_.gradient));
        continue;
      }
      const Doubles others = reference::widen(without_key(expected));
      EXPECT_TRUE(near_everywhere(without_key(actual), others, tolerances_.gradient));
      const double scale =
          std::sqrt(std::inner_product(others.begin(), others.end(), others.begin(), 0.0) /
                    static_cast<double>(others.size()));
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
      EXPECT_TRUE(near_everywhere(actual, wide, tolerances_.final));
      EXPECT_TRUE(moved_alike(spec, initial, actual, wide, tolerances_.movement));
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
  EXPECT_TRUE(near_everywhere(actual, reference::widen(golden_.logits), tolerances_.logits));
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
    model.adamw().update(step + 1, golden_.learning_rates[at]);
    EXPECT_NEAR(model.adamw().gradient_norm(), golden_.norms[at],
                tolerances_.norm * golden_.norms[at]);
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
