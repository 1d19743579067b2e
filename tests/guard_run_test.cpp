// Whole runs in which numbers go wrong: what each choice of --on-nonfinite leaves, and that it is
// what a run would leave that never met the batch. And what --check-finite says.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include "lathe/error.h"
#include "lathe/random.h"
#include "support/error_of.h"
#include "support/small_run.h"
#include "support/test_model.h"
#include "training/finite_check.h"

namespace lathe::test {
namespace {

constexpr std::size_t kStepBytes = 128;  // tokens of a step, in order

// Words, each step's first byte the same: so steps can be cut out and nobody else's targets change.
std::string make_text() {
  std::string text;
  for (std::size_t i = 0; i < 40 * kStepBytes; ++i) {
    const double u = uniform({.seed = 5, .stream = RandomStream::sampling, .substream = 0}, i);
    const bool starts_step = i % kStepBytes == 0;
    text += starts_step ? '#' : static_cast<char>('a' + static_cast<int>(6 * u));
  }
  return text;
}

std::string without_steps(std::string text, std::size_t first, std::size_t count) {
  return text.erase((first - 1) * kStepBytes, count * kStepBytes);
}

// Makes the norm of the n-th update not finite.
SmallRuns::MakeObserver poison(const std::set<int>& updates, float value) {
  return [=](Backend& backend) {
    return std::make_unique<AtOperation>(
        "sum_of_squares", updates, [&backend, value](const OperationOutputs& operation) {
          backend.upload(operation.outputs.written.at(0).tensor, &value);
        });
  };
}

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

class GuardRun : public testing::Test {
 protected:
  std::string text_ = make_text();
  SmallRuns runs_ = SmallRuns(text_);
};

TEST_F(GuardRun, ASkippedStepIsAsIfItsBatchHadNotBeen) {
  for (const std::string precision : {"fp32", "bf16"}) {
    const std::string type = "--precision=" + precision;
    ASSERT_EQ(runs_.train_observed(precision, {type}, poison({4, 5}, kNan)), 0);
    const auto result = runs_.result(precision);
    EXPECT_EQ(result.at("status"), "finished");
    EXPECT_EQ(result.at("skipped_steps"), 2);
    EXPECT_EQ(result.at("step"), 8);
    EXPECT_EQ(result.at("tokens"), 6 * kStepBytes);
    const auto skipped = runs_.lines(precision, "train/skipped");
    ASSERT_EQ(skipped.size(), 2u);
    EXPECT_EQ(skipped[0].at("step"), 4);
    EXPECT_EQ(skipped[0].at("train/skipped"), true);
    EXPECT_EQ(skipped[0].at("train/grad_norm"), nullptr);
    EXPECT_EQ(runs_.lines(precision, "train/loss").size(), 8u);
    EXPECT_EQ(runs_.state(precision, 8).at("guard").at("skipped_steps"), 2);

    const SmallRuns others(without_steps(text_, 4, 2));
    ASSERT_EQ(others.train("other", {type, "--steps=6"}), 0);
    for (const char* name : {"model.safetensors", "optimizer.safetensors"}) {
      EXPECT_TRUE(runs_.file(precision, fmt::format("checkpoints/step-00000008/{}", name)) ==
                  others.file("other", fmt::format("checkpoints/step-00000006/{}", name)))
          << name;
    }
  }
}

TEST_F(GuardRun, StopEndsItAtOnce) {
  const auto run = [&] {
    runs_.train_observed("run", {"--on-nonfinite=stop", "--checkpoint-every=2"},
                         poison({4}, kInfinity));
  };
  EXPECT_EQ(error_of(run),
            "exit 7: gradient norm is inf at step 4: the weights are as they were; try a lower "
            "--lr or a longer --warmup-steps");
  EXPECT_EQ(runs_.result("run").at("status"), "failed");
  EXPECT_EQ(runs_.result("run").at("exit_code"), 7);
  EXPECT_EQ(runs_.result("run").at("end_reason"), "error");
  EXPECT_EQ(runs_.result("run").at("checkpoint"), "checkpoints/step-00000002");
}

// Update 6 is refused; the run goes back to step 4 and on with batch 7. Of the text without batches
// 5 and 6 an untroubled run makes the same.
TEST_F(GuardRun, RollbackGoesOnWithTheDataAfterTheBatch) {
  ASSERT_EQ(runs_.train_observed("run", {"--on-nonfinite=rollback", "--checkpoint-every=4"},
                                 poison({6}, kNan)),
            0);
  const auto result = runs_.result("run");
  EXPECT_EQ(result.at("rollbacks"), 1);
  EXPECT_EQ(result.at("skipped_steps"), 0);
  EXPECT_EQ(result.at("step"), 8);
  const SmallRuns others(without_steps(text_, 5, 2));
  ASSERT_EQ(others.train("other"), 0);
  EXPECT_TRUE(runs_.file("run", "checkpoints/step-00000008/model.safetensors") ==
              others.file("other", "checkpoints/step-00000008/model.safetensors"));
  const auto lines = runs_.lines("run", "train/loss"),
             expected = others.lines("other", "train/loss");
  ASSERT_EQ(lines.size(), expected.size());
  for (std::size_t i = 0; i < lines.size(); ++i) {
    EXPECT_EQ(lines[i].at("step"), expected[i].at("step"));
    EXPECT_EQ(lines[i].at("train/loss"), expected[i].at("train/loss"));
  }
}

TEST_F(GuardRun, RollbackWithoutACheckpointEnds) {
  EXPECT_EQ(error_of([&] {
              runs_.train_observed("run", {"--on-nonfinite=rollback"}, poison({3}, kNan));
            }),
            "exit 7: gradient norm is nan at step 3: the run has no checkpoint to go back to; give "
            "--checkpoint-every, or --on-nonfinite skip");
}

TEST_F(GuardRun, SoManyInARowEndItWithAllSaved) {
  const auto run = [&] {
    runs_.train_observed("run", {"--max-skips=3"}, poison({2, 4, 5, 6}, kNan));
  };
  EXPECT_EQ(error_of(run),
            "exit 7: gradient norm is nan at step 6, with 3 in a row the run ends (--max-skips): "
            "the weights are as they were; try a lower --lr or a longer --warmup-steps");
  EXPECT_EQ(runs_.result("run").at("checkpoint"), "checkpoints/step-00000006");
  EXPECT_EQ(runs_.result("run").at("skipped_steps"), 4);
  EXPECT_EQ(runs_.state("run", 6).at("guard").at("refused_in_row"), 3);
  // The weights are those of the two updates that there were, and the run can go on.
  const SmallRuns others(without_steps(text_, 2, 1));
  ASSERT_EQ(others.train("other", {"--steps=2"}), 0);
  EXPECT_TRUE(runs_.file("run", "checkpoints/step-00000006/model.safetensors") ==
              others.file("other", "checkpoints/step-00000002/model.safetensors"));
  EXPECT_EQ(runs_.train("run", {"--resume"}), 0);
}

TEST_F(GuardRun, RollbacksInARowEndIt) {
  const auto run = [&] {
    runs_.train_observed("run",
                         {"--on-nonfinite=rollback", "--checkpoint-every=2", "--max-skips=2"},
                         poison({6, 8}, kNan));
  };
  EXPECT_TRUE(error_of(run).starts_with("exit 7: gradient norm is nan at step 6, with 2 in a row"));
  EXPECT_EQ(runs_.result("run").at("rollbacks"), 2);
}

// Step 24 reads bytes that no other has, when the loss has fallen and the window is full.
TEST_F(GuardRun, AnOutlierIsSkippedTheSameHoweverOftenTheRunWasInterrupted) {
  std::string text = text_;
  for (std::size_t i = 23 * kStepBytes; i < 24 * kStepBytes; ++i) {
    text[i] = static_cast<char>(0x80 + i % 100);
  }
  const SmallRuns runs(text);
  const std::vector<std::string> args = {"--steps=28", "--loss-spike-z=6", "--spike-window=8",
                                         "--norm-spike-z=50"};
  ASSERT_EQ(runs.train("whole", args), 0);
  const auto skipped = runs.lines("whole", "train/skipped");
  ASSERT_EQ(skipped.size(), 1u);
  EXPECT_EQ(skipped[0].at("step"), 24);
  EXPECT_GT(skipped[0].at("train/loss"), 5);
  for (const auto& loss : runs.state("whole", 28).at("guard").at("losses")) EXPECT_LT(loss, 5);
  std::vector<std::string> cut = args;
  cut.emplace_back("--stop-at-step=14");
  ASSERT_EQ(runs.train("cut", cut), 0);
  for (int step = 16; step <= 28; step += 3) {
    ASSERT_EQ(runs.train("cut", {"--resume", fmt::format("--stop-at-step={}", step)}), 0);
  }
  EXPECT_TRUE(runs.same_tensors("whole", 28, "cut", 28));
  EXPECT_EQ(runs.state("whole", 28).at("guard"), runs.state("cut", 28).at("guard"));
}

TEST_F(GuardRun, AValidationThatIsNotFiniteEndsIt) {
  EXPECT_EQ(error_of([&] {
              runs_.train("run", {"--lr=1e30", "--grad-clip=0", "--val-every=2"});
            }),
            "exit 7: validation loss is nan at step 2: the weights are no use; try a lower --lr or "
            "a longer --warmup-steps");
}

// ---- --check-finite

// Puts NaN into the n-th operation's output of that name and shows it to the check.
class PoisonBefore final : public OutputObserver {
 public:
  PoisonBefore(Backend& backend, FiniteCheck& check) : backend_(backend), check_(check) {}

  void observe(const OperationOutputs& operation) override {
    const Tensor tensor = operation.outputs.written.back().tensor;
    if (++count_ == at_) {
      const std::vector<std::byte> ones(static_cast<std::size_t>(size_of(tensor.type())),
                                        std::byte{0xff});  // NaN in either type
      backend_.upload(tensor.view({tensor.count()}).slice(tensor.count() - 1, 1), ones.data());
      element_ = tensor.count() - 1;
    }
    check_.observe(operation);
  }

  void start(int at) {
    at_ = at;
    count_ = 0;
  }
  int count() const { return count_; }
  std::int64_t element() const { return element_; }

 private:
  Backend& backend_;
  FiniteCheck& check_;
  int at_ = 0, count_ = 0;
  std::int64_t element_ = 0;
};

std::vector<std::string> forward_names(int block) {
  const std::string b = fmt::format("blocks.{}", block);
  return {b + ".ln1 layernorm_forward.out",  b + ".attention.qkv linear_forward.out",
          b + " attention_forward.out",      b + ".attention.proj linear_forward.out",
          b + ".ln2 layernorm_forward.out",  b + ".mlp.fc linear_forward.out",
          b + ".mlp.proj linear_forward.out"};
}

// What --recompute block makes again.
std::vector<std::string> recomputed_names(int block) {
  const std::string b = fmt::format("blocks.{}", block);
  return {b + ".ln1 layernorm_forward.out", b + ".attention.qkv linear_forward.out",
          b + ".ln2 layernorm_forward.out", b + ".mlp.fc linear_forward.out"};
}

std::vector<std::string> backward_names(int block) {
  const std::string b = fmt::format("blocks.{}", block);
  return {b + ".mlp.proj linear_backward.d_bias", b + ".mlp.fc linear_backward.d_bias",
          b + ".ln2 layernorm_backward.d_bias",   b + ".attention.proj linear_backward.d_bias",
          b + " attention_backward.d_qkv",        b + ".attention.qkv linear_backward.d_bias",
          b + ".ln1 layernorm_backward.d_bias"};
}

// The last output of every operation of a micro-step of two blocks and an update, in order.
std::vector<std::string> names_of_step(Recompute recompute) {
  std::vector<std::string> names = {"token_embedding embedding_forward.out"};
  const auto append = [&](const std::vector<std::string>& more) {
    names.insert(names.end(), more.begin(), more.end());
  };
  append(forward_names(0));
  append(forward_names(1));
  append({"final_ln layernorm_forward.out", "token_embedding linear_forward.out",
          "cross_entropy.d_logits", "token_embedding linear_backward.d_weight",
          "final_ln layernorm_backward.d_bias", "sum.out"});
  append(backward_names(1));
  if (recompute == Recompute::block) append(recomputed_names(0));
  append(backward_names(0));
  append({"token_embedding embedding_backward.d_position_table", "sum_of_squares.out", "sum.out",
          "adamw_update.parameter"});
  return names;
}

class FiniteCheckOf : public testing::TestWithParam<std::tuple<DType, Recompute>> {};

TEST_P(FiniteCheckOf, NamesTheFirstLayerAndTensor) {
  const auto [precision, recompute] = GetParam();
  const std::vector<std::string> names = names_of_step(recompute);
  const RandomTokens tokens(2, 7, 11, 1);
  for (int at = 1; at <= std::ssize(names) + 1; ++at) {
    TestModel model({.config = {.layers = 2, .heads = 2, .channels = 8, .context = 8, .vocab = 11},
                     .options = {.micro_batch = 2,
                                 .seq_len = 7,
                                 .precision = precision,
                                 .recompute = recompute,
                                 .training = true}});
    model.initialize(1);
    FiniteCheck check(model.backend(), model.model(), model.adamw());
    check.set_step(12);
    check.check_parameters();
    PoisonBefore poison(model.backend(), check);
    model.backend().set_observer(&poison);
    poison.start(at);
    const std::string message = error_of([&] {
      model.forward_backward(tokens.batch());
      model.update(1, 1e-3);
    });
    if (at > std::ssize(names)) {
      EXPECT_EQ(message, "");
      EXPECT_EQ(poison.count(), std::ssize(names));
      continue;
    }
    const std::string& name = names[static_cast<std::size_t>(at - 1)];
    EXPECT_TRUE(message.starts_with(fmt::format("exit 7: step 12: {} (", name)))
        << message << ", not " << name;
    EXPECT_NE(message.find(fmt::format("has nan at element {}", poison.element())),
              std::string::npos)
        << message;
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, FiniteCheckOf,
                         testing::Combine(testing::Values(DType::fp32, DType::bf16),
                                          testing::Values(Recompute::none, Recompute::block)));

TEST_F(GuardRun, CheckFiniteEndsARunAtTheFirstBadValue) {
  EXPECT_EQ(runs_.train("whole"), 0);
  EXPECT_EQ(runs_.train("fine", {"--check-finite"}), 0);
  EXPECT_TRUE(runs_.same_tensors("whole", 8, "fine", 8));
  const std::string message = error_of([&] {
    runs_.train("run", {"--check-finite", "--lr=1e30", "--grad-clip=0", "--warmup-steps=0"});
  });
  EXPECT_TRUE(
      message.starts_with("exit 7: step 2: blocks.0.attention.qkv linear_forward.out (64, "
                          "48) has "))
      << message;
}

}  // namespace
}  // namespace lathe::test
