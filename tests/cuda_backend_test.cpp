// The CUDA backend as a whole: a model trained on it and on the CPU, recorded and not recorded, and
// what it says when memory does not suffice.
#include "lathe/cuda.h"

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include "lathe/model_files.h"
#include "lathe/plan.h"
#include "support/compare.h"
#include "support/device_tensors.h"
#include "support/error_of.h"
#include "support/reference.h"
#include "support/test_model.h"

namespace lathe::test {
namespace {

// Products go through cuBLASLt, and attention in bf16 on tensor cores; T is no multiple of any
// block.
constexpr ModelConfig kConfig = {
    .layers = 2, .heads = 2, .channels = 64, .context = 24, .vocab = 61};
constexpr std::int64_t kRows = 3, kSeqLen = 19;

TestModel make_model(DType precision, std::unique_ptr<Backend> backend) {
  TestModel model({.config = kConfig,
                   .options = {.micro_batch = kRows,
                               .seq_len = kSeqLen,
                               .precision = precision,
                               .recompute = Recompute::none,
                               .training = true}},
                  std::move(backend));
  model.initialize(7, 4);
  return model;
}

RandomTokens tokens_of_step(std::int64_t step) {
  return {2 * kRows, kSeqLen, kConfig.vocab, static_cast<std::uint64_t>(step)};
}

// One update from two micro-batches; the mean loss.
double train_step(TestModel& model, std::int64_t step) {
  const double loss =
      model.forward_backward(tokens_of_step(step).batch(), std::vector{kRows, kRows});
  model.update(step, 1e-3);
  return loss;
}

TEST(CudaBackend, TwentyStepsInFp32GiveTheLossesOfTheCpu) {
  TestModel gpu = make_model(DType::fp32, make_cuda_backend({}));
  TestModel cpu = make_model(DType::fp32, make_cpu_backend(1));
  for (std::int64_t step = 1; step <= 20; ++step) {
    const double expected = train_step(cpu, step);
    EXPECT_NEAR(train_step(gpu, step), expected, 1e-5 * expected) << "step " << step;
  }
}

// In bf16 two roundings of a weight differ by 2^-8 of it, so every step starts from the CPU's.
TEST(CudaBackend, StepsInBf16FromTheSameWeightsAreThoseOfTheCpu) {
  TestModel gpu = make_model(DType::bf16, make_cuda_backend({}));
  TestModel cpu = make_model(DType::bf16, make_cpu_backend(1));
  for (std::int64_t step = 1; step <= 20; ++step) {
    SCOPED_TRACE(step);
    for (const ParameterSpec& spec : cpu.specs()) {
      gpu.set(spec, cpu.values(spec, cpu.adamw().master()));
    }
    gpu.publish();
    const RandomTokens tokens = tokens_of_step(step);
    const Batch batch = tokens.batch();
    const double expected = cpu.forward_backward(batch, std::vector{kRows, kRows});
    EXPECT_NEAR(gpu.forward_backward(batch, std::vector{kRows, kRows}), expected, 2e-3 * expected);
    const auto gradients = to_floats(gpu.backend(), gpu.model().gradients());
    const auto expected_gradients = to_floats(cpu.backend(), cpu.model().gradients());
    // Both are this far from exact gradients (golden_test.cpp: 15 u with u = 2^-9).
    EXPECT_TRUE(near_in_norm(gradients, reference::widen(expected_gradients), 2 * 15 * 0x1p-9));
    cpu.update(step, 1e-3);
  }
}

TEST(CudaBackend, RecordedWorkGivesTheSameBits) {
  for (const DType precision : {DType::fp32, DType::bf16}) {
    TestModel recorded = make_model(precision, make_cuda_backend({.gemm_tuning = false}));
    TestModel plain =
        make_model(precision, make_cuda_backend({.gemm_tuning = false, .graph = false}));
    for (std::int64_t step = 1; step <= 4; ++step) {  // done, recorded, replayed
      EXPECT_EQ(train_step(recorded, step), train_step(plain, step)) << "step " << step;
    }
    EXPECT_TRUE(same_bits(recorded.state_bytes(), plain.state_bytes()));
  }
}

// Scratch memory that grows after a recording moves: what was recorded must not be replayed.
TEST(CudaBackend, GrowingScratchMemoryInvalidatesRecordings) {
  TestModel model = make_model(DType::fp32, make_cuda_backend({.gemm_tuning = false}));
  TestModel plain =
      make_model(DType::fp32, make_cuda_backend({.gemm_tuning = false, .graph = false}));
  for (std::int64_t step = 1; step <= 6; ++step) {
    if (step == 4) {
      constexpr std::int64_t kMany = 1 << 20;
      const auto x = zeros(model.backend(), DType::fp32, {kMany / 64, 64});
      const auto mean = zeros(model.backend(), DType::fp32, {kMany / 64});
      const auto gain = zeros(model.backend(), DType::fp32, {64});
      const auto d_gain = zeros(model.backend(), DType::fp32, {64});
      const auto d_bias = zeros(model.backend(), DType::fp32, {64});
      model.backend().run(LayerNormBackward{.d_x = x,
                                            .d_gain = d_gain,
                                            .d_bias = d_bias,
                                            .d_out = x,
                                            .d_residual = {},
                                            .x = x,
                                            .gain = gain,
                                            .mean = mean,
                                            .rstd = mean,
                                            .accumulate = false});
    }
    EXPECT_EQ(train_step(model, step), train_step(plain, step)) << "step " << step;
  }
  EXPECT_TRUE(same_bits(model.state_bytes(), plain.state_bytes()));
}

// Uploads return before the GPU has the bytes: the host's memory is free to change at once.
TEST(CudaBackend, UploadsOfAnySizeArrive) {
  const auto backend = make_cuda_backend({});
  for (const std::int64_t count : {1, 1000, (1 << 18) - 1, 1 << 18, 3 * (1 << 18) + 5}) {
    std::vector<float> values = normal_floats(count, 1);
    const std::vector<float> expected = values;
    const auto tensor = zeros(*backend, DType::fp32, {count});
    backend->upload(tensor, values.data());
    std::fill(values.begin(), values.end(), 0.0f);
    EXPECT_EQ(to_floats(*backend, tensor), expected);
  }
}

// Work that waits cannot be recorded: the runtime says so instead of leaving a hole in the record.
TEST(CudaBackend, RecordedWorkMustNotWait) {
  const auto backend = make_cuda_backend({});
  const auto recorder = backend->make_recorder();
  const auto waits = [&] { backend->synchronize(); };
  recorder->run("waits", waits);
  const std::string message = error_of([&] { recorder->run("waits", waits); });
  EXPECT_EQ(message.find("exit 1: [cudaStreamSynchronize] "), 0u) << message;
  backend->synchronize();  // the stream is usable again
}

TEST(CudaBackend, SaysWhatWouldFitIntoItsMemory) {
  const auto backend = make_cuda_backend({});
  Options options =
      parse_options(Command::train,
                    std::vector<std::string>{"--model=gpt2", "--micro-batch=4096", "--seq-len=1024",
                                             "--precision=bf16", "--device=cuda", "--vocab=50257"},
                    {});
  resolve(options);
  const ModelConfig config = complete_config(options, 50257);
  const std::string message =
      error_of([&] { require_memory(*backend, config, options, /*ranks=*/1); });
  EXPECT_NE(message.find("exit 5: the run needs "), std::string::npos) << message;
  EXPECT_NE(message.find("GB of GPU memory, "), std::string::npos) << message;
  EXPECT_NE(message.find(" GB are free; --micro-batch "), std::string::npos) << message;
  EXPECT_NE(message.find(" --recompute none ("), std::string::npos) << message;
  EXPECT_NE(message.find(" --recompute block ("), std::string::npos) << message;

  // What it names does fit, and one more sequence does not.
  const std::size_t at = message.find("--micro-batch ") + 14;
  options.micro_batch = std::stoll(message.substr(at));
  EXPECT_NO_THROW(require_memory(*backend, config, options, /*ranks=*/1));
  options.micro_batch *= 2;
  EXPECT_THROW(require_memory(*backend, config, options, /*ranks=*/1), Error);
}

}  // namespace
}  // namespace lathe::test
