// What follows from a model's sizes, and what is in its parameters at the start. Initial values are
// frozen: a seed stands for the same model in every version.
#include "lathe/model_config.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "lathe/error.h"
#include "lathe/model.h"
#include "support/host_backend.h"

namespace lathe::test {
namespace {

struct Counts {
  const char *preset, *other_name;
  std::int64_t padded, unpadded;
};

ModelConfig preset(const char* name, std::int64_t vocab) {
  ModelConfig config = model_preset(name).value();
  config.vocab = vocab;
  return config;
}

TEST(ModelConfig, PresetsHaveTheSizesOfGpt2) {
  for (const Counts& counts : {Counts{"d12", "gpt2", 124475904, 124439808},
                               Counts{"d24", "gpt2-medium", 354871296, 354823168},
                               Counts{"d36", "gpt2-large", 774090240, 774030080},
                               Counts{"d48", "gpt2-xl", 1557686400, 1557611200}}) {
    const ModelConfig config = preset(counts.preset, 50257);
    EXPECT_EQ(config, preset(counts.other_name, 50257));
    const auto specs = parameter_specs(config);
    EXPECT_EQ(parameter_count(specs), counts.unpadded);
    std::int64_t padded = 0;
    for (const ParameterSpec& spec : specs) padded += spec.padded_count();
    EXPECT_EQ(padded, counts.padded);
    EXPECT_EQ(parameter_memory_count(specs), counts.padded);  // C is a multiple of 64
  }
}

TEST(ModelConfig, UnknownPresetsAreRefused) {
  for (const char* name : {"", "d13", "GPT2", "gpt2-"}) {
    EXPECT_FALSE(model_preset(name).has_value()) << name;
  }
  for (const std::string& name : model_preset_names()) EXPECT_TRUE(model_preset(name)) << name;
}

TEST(ModelConfig, VocabularyIsPaddedToMultiplesOf128) {
  ModelConfig config = preset("tiny", 1);
  for (const auto& [vocab, padded] :
       {std::pair{1, 128}, {127, 128}, {128, 128}, {129, 256}, {256, 256}, {50257, 50304}}) {
    config.vocab = vocab;
    EXPECT_EQ(config.padded_vocab(), padded);
  }
}

TEST(ModelConfig, ValidationNamesOptionAndRemedy) {
  const auto message = [](ModelConfig config) -> std::string {
    try {
      validate(config);
      return "";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::usage);
      return error.what();
    }
  };
  const ModelConfig good = {.layers = 1, .heads = 3, .channels = 12, .context = 1, .vocab = 1};
  EXPECT_EQ(message(good), "");
  ModelConfig config = good;
  config.heads = 5;
  EXPECT_EQ(message(config), "--heads 5: does not divide --channels 12; 1, 2, 3, 4, 6, 12 would");
  config = good;
  config.layers = 0;
  EXPECT_EQ(message(config), "--layers 0: must be between 1 and 1000");
  config = good;
  config.context = -4;
  EXPECT_EQ(message(config), "--context -4: must be between 1 and 1048576");
}

// Tensors lie one behind another, aligned, without overlap; matrices of a block before its vectors.
TEST(ParameterSpecs, LayOutFlatMemory) {
  const auto specs =
      parameter_specs({.layers = 3, .heads = 1, .channels = 5, .context = 7, .vocab = 130});
  std::int64_t end = 0;
  for (const ParameterSpec& spec : specs) {
    EXPECT_EQ(spec.offset % 64, 0) << spec.name;
    EXPECT_GE(spec.offset, end) << spec.name;
    EXPECT_LT(spec.offset - end, 64) << spec.name;
    end = spec.offset + spec.padded_count();
    EXPECT_EQ(spec.padded_rows, spec.name == "token_embedding.weight" ? 256 : spec.shape[0]);
  }
  EXPECT_GE(parameter_memory_count(specs), end);
  for (std::size_t i = 1; i < specs.size(); ++i) {
    EXPECT_GE(specs[i].block, specs[i - 1].block);
    if (specs[i].block == specs[i - 1].block) {
      EXPECT_LE(specs[i].decays, specs[i - 1].decays);
    }
  }
  EXPECT_EQ(specs.front().block, -1);
  EXPECT_EQ(specs.back().block, 3);
}

class InitialValues : public testing::Test {
 protected:
  std::vector<float> flat(const ModelConfig& config, std::uint64_t seed) {
    const auto specs = parameter_specs(config);
    const std::int64_t count = parameter_memory_count(specs);
    const Buffer memory = backend_.allocate(count * 4);
    const Tensor tensor(memory.get(), DType::fp32, {count});
    initialize_parameters(backend_, specs, tensor, seed);
    return {tensor.as<float>(), tensor.as<float>() + count};
  }

  HostBackend backend_;
};

std::span<const float> part(const std::vector<float>& flat, const ParameterSpec& spec) {
  return std::span(flat).subspan(static_cast<std::size_t>(spec.offset),
                                 static_cast<std::size_t>(spec.count()));
}

// Radford et al. 2019: N(0, 0.02), into the residual stream N(0, 0.02 / sqrt(2L)).
TEST_F(InitialValues, HaveGpt2sDistribution) {
  const ModelConfig config = preset("tiny", 256);
  const std::vector<float> values = flat(config, 5);
  for (const ParameterSpec& spec : parameter_specs(config)) {
    const std::span<const float> x = part(values, spec);
    const auto count = static_cast<double>(x.size());
    const double mean = std::accumulate(x.begin(), x.end(), 0.0) / count;
    double square_sum = 0;
    for (const float value : x) square_sum += std::pow(value - mean, 2);
    const double stddev = std::sqrt(square_sum / count);
    if (spec.shape.size() == 1) {
      EXPECT_EQ(mean, spec.name.ends_with(".gain") ? 1 : 0) << spec.name;
      EXPECT_EQ(stddev, 0) << spec.name;
      continue;
    }
    const double expected = spec.name.ends_with(".proj.weight") ? 0.02 / std::sqrt(2.0 * 4) : 0.02;
    // Five standard errors.
    EXPECT_NEAR(mean, 0, 5 * expected / std::sqrt(count)) << spec.name;
    EXPECT_NEAR(stddev, expected, 5 * expected / std::sqrt(2 * count)) << spec.name;
  }
}

TEST_F(InitialValues, DifferBetweenTensorsAndSeeds) {
  const ModelConfig config = preset("tiny", 256);
  const std::vector<float> values = flat(config, 5), others = flat(config, 6);
  EXPECT_EQ(values, flat(config, 5));
  std::vector<float> first;
  for (const ParameterSpec& spec : parameter_specs(config)) {
    if (spec.init != ParameterSpec::Init::normal) continue;
    first.push_back(part(values, spec)[0] / spec.init_stddev);
    first.push_back(part(others, spec)[0] / spec.init_stddev);
  }
  std::sort(first.begin(), first.end());
  EXPECT_EQ(std::adjacent_find(first.begin(), first.end()), first.end());
}

TEST_F(InitialValues, DoNotDependOnPadding) {
  const ModelConfig config = {.layers = 1, .heads = 1, .channels = 5, .context = 3, .vocab = 200};
  ModelConfig smaller = config;
  smaller.vocab = 120;
  const std::vector<float> values = flat(config, 5), fewer = flat(smaller, 5);
  const auto specs = parameter_specs(config), fewer_specs = parameter_specs(smaller);
  EXPECT_EQ(fewer[119 * 5 + 4], values[119 * 5 + 4]);
  EXPECT_EQ(fewer[120 * 5], 0);
  for (std::size_t i = 1; i < specs.size(); ++i) {
    const auto a = part(values, specs[i]), b = part(fewer, fewer_specs[i]);
    EXPECT_TRUE(std::equal(a.begin(), a.end(), b.begin(), b.end())) << specs[i].name;
  }
}

struct FrozenTensor {
  const char* name;
  float first, second, last;
};

// Made by a program of its own, from the definition: Philox 4x32-10 and Box-Muller.
TEST_F(InitialValues, AreFrozen) {
  const ModelConfig config = preset("tiny", 256);
  const std::vector<float> values = flat(config, 1337);
  const FrozenTensor frozen[] = {
      {"token_embedding.weight", -0.00100199815f, 0.0243317589f, 0.00832258264f},
      {"position_embedding.weight", 0.0201372369f, 0.00325082327f, -0.0223615518f},
      {"blocks.0.attention.qkv.weight", -0.0334345243f, 0.00152903183f, -0.0290617402f},
      {"blocks.0.attention.proj.weight", 0.002298316f, 0.00316388796f, 0.00585596793f},
      {"blocks.0.mlp.fc.weight", 0.00318409288f, 0.0565268293f, 0.0111374396f},
      {"blocks.0.mlp.proj.weight", 0.00552766982f, -0.00358876039f, -0.00689503449f},
      {"blocks.3.mlp.proj.weight", 0.00554026491f, 0.00348961094f, 0.00485165366f},
  };
  double sum = 0, square_sum = 0;
  for (const ParameterSpec& spec : parameter_specs(config)) {
    const std::span<const float> x = part(values, spec);
    for (const FrozenTensor& tensor : frozen) {
      if (spec.name != tensor.name) continue;
      EXPECT_FLOAT_EQ(x[0], tensor.first) << spec.name;
      EXPECT_FLOAT_EQ(x[1], tensor.second) << spec.name;
      EXPECT_FLOAT_EQ(x[x.size() - 1], tensor.last) << spec.name;
    }
    if (spec.init != ParameterSpec::Init::normal) continue;
    sum += std::accumulate(x.begin(), x.end(), 0.0);
    square_sum += std::inner_product(x.begin(), x.end(), x.begin(), 0.0);
  }
  EXPECT_NEAR(sum, 6.829851815, 1e-5);  // 800,000 roundings to float
  EXPECT_NEAR(square_sum, 219.4572526, 1e-4);
}

}  // namespace
}  // namespace lathe::test
