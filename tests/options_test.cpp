// Sources of options and their order, conversion of values, config files, resuming.
#include "lathe/options.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <variant>

#include "lathe/error.h"
#include "lathe/random.h"
#include "options/option_numbers.h"
#include "options/option_sources.h"
#include "options/option_table.h"
#include "options/suggest.h"
#include "support/temp_dir.h"

namespace lathe {
namespace {

using test::TempDir;
using Args = std::vector<std::string>;

Options train(const Args& args, const Environment& environment = {}) {
  return parse_options(Command::train, args, environment);
}

// "2: --lr nan: must be ..."; "no error" when there is none.
template <class F>
std::string error_of(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    return std::to_string(static_cast<int>(error.code())) + ": " + error.what();
  }
  return "no error";
}

std::string train_error(const Args& args, const Environment& environment = {}) {
  return error_of([&] { train(args, environment); });
}

TEST(OptionNumbers, IntegersAsPeopleWriteThem) {
  const IntegerRange any = {.most = INT64_MAX};
  const std::pair<const char*, std::int64_t> right[] = {
      {"0", 0},
      {"2000", 2000},
      {"1e3", 1000},
      {"1E3", 1000},
      {"1e+3", 1000},
      {"1e03", 1000},
      {"500M", 500'000'000},
      {"10B", 10'000'000'000},
      {"2K", 2000},
      {"2k", 2000},
      {"1.5M", 1'500'000},
      {"1.5e3", 1500},
      {"0.001K", 1},
      {"2000e-3", 2},
      {"7.0", 7},
      {".5K", 500},
      {"0e9999", 0},
      {"9223372036854775807", INT64_MAX},
      {"9007199254740993", 9007199254740993},  // not a double
  };
  for (const auto& [text, value] : right) EXPECT_EQ(parse_integer(text, any), value) << text;
  for (const char* text : {"",
                           " ",
                           "-1",
                           "+1",
                           "-0",
                           "010",
                           "00",
                           "0x10",
                           "1.5",
                           "1.2345K",
                           "1e-1",
                           "nan",
                           "inf",
                           "1 ",
                           " 1",
                           "1_000",
                           "1,000",
                           "1e",
                           "e3",
                           "1e3K",
                           "K",
                           "1KK",
                           "1T",
                           "1e3.5",
                           "1e+-3",
                           "9223372036854775808",
                           "1e19",
                           "1e99999999999",
                           "99999999999999999999",
                           "."}) {
    EXPECT_EQ(parse_integer(text, any), std::nullopt) << text;
  }
  EXPECT_EQ(parse_integer("8", {.least = 1, .most = 8}), 8);
  EXPECT_EQ(parse_integer("9", {.least = 1, .most = 8}), std::nullopt);
  EXPECT_EQ(parse_integer("0", {.least = 1, .most = 8}), std::nullopt);
}

TEST(OptionNumbers, RealsAreTheNearestDouble) {
  const std::pair<const char*, double> right[] = {
      {"3e-4", 3e-4},     {".9", .9},
      {"0.1", 0.1},       {"1", 1},
      {"0", 0},           {"1e-08", 1e-8},
      {"0.5K", 500},      {"1.7976931348623157e308", std::numeric_limits<double>::max()},
      {"5e-324", 5e-324}, {"0.30000000000000004", 0.1 + 0.2}};
  for (const auto& [text, value] : right) EXPECT_EQ(parse_real(text, {}), value) << text;
  for (const char* text : {"", "nan", "NaN", "inf", "infinity", "1e309", "1e-400", "-1", "+1", "-0",
                           "0x1p3", "01.5", "1..2", "1.", "1e", "1f", "0,1"}) {
    EXPECT_EQ(parse_real(text, {}), std::nullopt) << text;
  }
  EXPECT_EQ(parse_real("0", {.least_included = false}), std::nullopt);
  EXPECT_EQ(parse_real("1", {.most = 1}), 1);
  EXPECT_EQ(parse_real("1", {.most = 1, .most_included = false}), std::nullopt);
}

TEST(OptionNumbers, ShortestReadsBackToTheSameBits) {
  const RandomKey key = {.seed = 1, .stream = RandomStream::sampling, .substream = 0};
  for (std::uint64_t i = 0; i < 20'000; ++i) {
    const auto words = philox(key, i);
    const auto value = std::bit_cast<double>((std::uint64_t{words[0]} << 32 | words[1]) >> 1);
    if (!std::isfinite(value)) continue;
    EXPECT_EQ(parse_real(shortest(value), {}), value);
  }
}

TEST(OptionTable, IsConsistent) {
  OptionGroup group{};
  for (const OptionSpec& option : option_table()) {
    EXPECT_EQ(find_option(option.name), &option) << option.name;
    EXPECT_FALSE(option.help.empty()) << option.name;
    EXPECT_NE(option.commands, 0u) << option.name;
    EXPECT_GE(option.group, group) << option.name << " stands outside of its group";
    group = option.group;
    const bool has_value = !option.value.empty() || !option.choices.empty();
    EXPECT_NE(has_value, option.is_boolean()) << option.name;
    // Help says that the first choice is the default.
    if (!option.choices.empty() && !option.initial.empty()) {
      EXPECT_EQ(option.choices.substr(0, option.choices.find('|')), option.initial);
    }
  }
  std::string models;
  for (const std::string& name : model_preset_names()) models += (models.empty() ? "" : "|") + name;
  EXPECT_EQ(find_option("model")->choices, models);
}

TEST(Options, DefaultsAreThoseOfTheContract) {
  const Options options = train({"--train", "a.bin"});
  EXPECT_EQ(options.train, Args{"a.bin"});
  EXPECT_EQ(options.model, "tiny");
  EXPECT_EQ(options.micro_batch, 4);
  EXPECT_EQ(options.seq_len, 0);
  EXPECT_EQ(options.steps + options.tokens, 0);
  EXPECT_EQ(options.epochs, 0);
  EXPECT_EQ(options.lr, 3e-4);
  EXPECT_EQ(options.lr_schedule, "cosine");
  EXPECT_EQ(options.final_lr_fraction, 1);
  EXPECT_EQ(options.beta1, 0.9);
  EXPECT_EQ(options.beta2, 0.95);
  EXPECT_EQ(options.eps, 1e-8);
  EXPECT_EQ(options.grad_clip, 1);
  EXPECT_EQ(options.weight_decay, 0);
  EXPECT_EQ(options.seed, 1337u);
  EXPECT_TRUE(options.shuffle);
  EXPECT_EQ(options.val_every, 250);
  EXPECT_EQ(options.out, "runs/default");
  EXPECT_EQ(options.resume, std::nullopt);
  EXPECT_FALSE(options.overwrite);
}

TEST(Options, WithoutTrainTheStoriesHaveTheirOwnDefaults) {
  const Options stories = train({});
  EXPECT_EQ(stories.tokens, 2'000'000);
  EXPECT_EQ(stories.lr, 3e-3);
  EXPECT_EQ(train({"--lr", "1e-3"}).lr, 1e-3);
  EXPECT_EQ(train({"--steps", "5"}).tokens, 0);
  EXPECT_EQ(parse_options(Command::plan, {}, {}), stories);
  EXPECT_EQ(train({}, {{"LATHE_TRAIN", "a.txt"}}).lr, 3e-4);
}

TEST(Options, EverySourceBeatsTheOnesBelow) {
  const TempDir dir;
  const std::string config = dir.write("run.toml", "lr = 0.01\nwarmup-steps = 1\nseed = 5\n");
  const Environment environment = {{"LATHE_LR", "0.02"}, {"LATHE_WARMUP_STEPS", "2"}};
  const Args args = {"--config", config, "--lr", "0.03"};
  const Options options = train(args, environment);
  EXPECT_EQ(options.lr, 0.03);
  EXPECT_EQ(options.warmup_steps, 2);
  EXPECT_EQ(options.seed, 5u);
  EXPECT_EQ(options.beta2, 0.99);  // of the stories
  EXPECT_EQ(options.beta1, 0.9);
  EXPECT_EQ(train({}, {{"LATHE_CONFIG", config}}).seed, 5u);
}

TEST(Options, FlagsComeInBothForms) {
  const Options options = train({"--train", "a", "b", "--lr=1e-3", "--train=c", "--lr", "2e-3",
                                 "--no-shuffle", "--quiet", "--seed", "7", "--train", "d"});
  EXPECT_EQ(options.train, (Args{"a", "b", "c", "d"}));
  EXPECT_EQ(options.lr, 2e-3);
  EXPECT_FALSE(options.shuffle);
  EXPECT_TRUE(options.quiet);
  EXPECT_TRUE(train({"--no-shuffle", "--shuffle"}).shuffle);
  EXPECT_FALSE(train({"--shuffle=false"}).shuffle);
  EXPECT_EQ(train({"--resume=auto", "--out", "/nowhere"}).resume, "auto");
  EXPECT_EQ(train({}, {{"LATHE_TRAIN", "a:b"}}).train, (Args{"a", "b"}));
  EXPECT_FALSE(train({}, {{"LATHE_SHUFFLE", "false"}}).shuffle);

  const Options sample =
      parse_options(Command::sample, Args{"--checkpoint", "c", "--prompt=--x"}, {});
  EXPECT_EQ(sample.prompt, "--x");
  const Options inspect = parse_options(Command::inspect, Args{"a", "--json", "b", "--", "-c"}, {});
  EXPECT_EQ(inspect.paths, (Args{"a", "b", "-c"}));
  EXPECT_TRUE(inspect.json);
}

TEST(Options, ANumberMayBeAWord) {
  const auto gpus = [](const std::vector<std::string>& args) {
    return parse_options(Command::train, args, {}).gpus;
  };
  EXPECT_EQ(gpus({}), 0);
  EXPECT_EQ(gpus({"--gpus=3"}), 3);
  EXPECT_EQ(gpus({"--gpus=all"}), kWord);
  Options options;
  options.gpus = kWord;
  EXPECT_EQ(value_text(options, *find_option("gpus")), "all");
}

TEST(Options, OneLengthReplacesTheOthersOfLowerSources) {
  const TempDir dir;
  const std::string config = dir.write("run.toml", "tokens = 1e6\n");
  const Options options = train({"--config", config, "--epochs", "2"}, {{"LATHE_STEPS", "10"}});
  EXPECT_EQ(options.epochs, 2);
  EXPECT_EQ(options.steps + options.tokens, 0);
  EXPECT_EQ(train({"--config", config}).tokens, 1'000'000);
  EXPECT_EQ(train({"--config", config}, {{"LATHE_STEPS", "10"}}).steps, 10);
  EXPECT_EQ(train({"--steps", "5", "--steps", "6"}).steps, 6);
  EXPECT_EQ(train_error({"--steps", "5", "--tokens", "1M"}),
            "2: --steps 5 and --tokens 1M: give one of --steps, --tokens, --epochs");
}

TEST(Options, ErrorsNameOptionValueAndRemedy) {
  const std::pair<Args, const char*> wrong[] = {
      {{"--lr", "nan"}, "2: --lr nan: must be a number above 0"},
      {{"--lr", "0"}, "2: --lr 0: must be a number above 0"},
      {{"--lr=-1"}, "2: --lr -1: must be a number above 0"},
      {{"--lr", "-1"}, "2: --lr -1: must be a number above 0"},
      {{"--lr="}, "2: --lr '': must be a number above 0"},
      {{"--beta1", "1"}, "2: --beta1 1: must be a number 0 or more and below 1"},
      {{"--final-lr-fraction", "2"},
       "2: --final-lr-fraction 2: must be a number 0 or more and at most 1"},
      {{"--steps", "0"}, "2: --steps 0: must be a whole number from 1 to 1e15"},
      {{"--steps", "010"}, "2: --steps 010: must be a whole number from 1 to 1e15"},
      {{"--threads", "0"}, "2: --threads 0: must be a whole number from 1 to 1024"},
      {{"--precision", "fp16"}, "2: --precision fp16: must be one of fp32, bf16"},
      {{"--model", "d13"},
       "2: --model d13: must be one of tiny, gpt2, gpt2-medium, gpt2-large, gpt2-xl, d12, d24, "
       "d36, d48"},
      {{"--out="}, "2: --out '': must be DIR, not empty"},
      {{"--quiet=maybe"}, "2: --quiet maybe: must be true or false"},
      {{"--no-quiet=1"}, "2: --no-quiet 1: takes no value"},
      {{"--lr"}, "2: --lr: needs a value, X"},
      {{"--lr", "--seed"}, "2: --lr: needs a value, X"},
      {{"--micro-batc", "4"}, "2: --micro-batc: no such option; did you mean --micro-batch?"},
      {{"--micro_batch=4"}, "2: --micro_batch: no such option; did you mean --micro-batch?"},
      {{"--no-shufle"}, "2: --no-shufle: no such option; did you mean --no-shuffle?"},
      {{"--zebra"}, "2: --zebra: no such option; see lathe train --help"},
      {{"--json"},
       "2: --json: lathe train does not take it; it belongs to sweep, eval, sample, inspect, plan, "
       "bench, "
       "ls, tokenize, train-tokenizer, verify"},
      {{"-x"}, "2: -x: no such option; see lathe train --help"},
      {{"book.txt"}, "2: book.txt: options begin with --; see lathe train --help"},
      {{"--train", "a\xff.txt"}, "2: --train a\\ufffd.txt: must be UTF-8"},
      {{"--resume=auto", "--overwrite"}, "2: --resume and --overwrite: give one of them"},
  };
  for (const auto& [args, message] : wrong) EXPECT_EQ(train_error(args), message);

  const auto of = [](Command command, const Args& args) {
    return error_of([&] { parse_options(command, args, {}); });
  };
  EXPECT_EQ(of(Command::eval, {}), "2: --checkpoint: lathe eval needs it; see lathe eval --help");
  EXPECT_EQ(of(Command::plot, {"--svg", "x.svg"}), "2: plot: needs a RUN; see lathe plot --help");
  EXPECT_EQ(of(Command::plan, {"--resume"}),
            "2: --resume: lathe plan does not take it; it belongs to train");
}

TEST(Options, EnvironmentNamesTheVariable) {
  EXPECT_EQ(train_error({}, {{"LATHE_LR", "fast"}}), "2: LATHE_LR fast: must be a number above 0");
  EXPECT_EQ(train_error({}, {{"LATHE_MICRO_BATHC", "8"}}),
            "2: LATHE_MICRO_BATHC: no such option; did you mean LATHE_MICRO_BATCH?");
  const Environment others = {{"LATHE_BINARY", "x"}, {"LATHE_TEST_DATA", "y"}, {"LATHE_JSON", "q"},
                              {"LATHE_HOME", "z"},   {"LATHE_LR", ""},         {"PATH", "/bin"}};
  EXPECT_EQ(train({}, others), train({}));
}

TEST(Options, ConfigFilesAreFlatAndTyped) {
  const TempDir dir;
  const auto with = [&](const std::string& text) {
    return train({"--config", dir.write("run.toml", text)});
  };
  EXPECT_EQ(with("train = 'a'\n").train, Args{"a"});
  EXPECT_EQ(with("train = ['a', 'b']\n").train, (Args{"a", "b"}));
  EXPECT_EQ(with("tokens = '500M'\n").tokens, 500'000'000);
  EXPECT_EQ(with("tokens = 2e9\n").tokens, 2'000'000'000);
  EXPECT_EQ(with("epochs = 2\n").epochs, 2);
  EXPECT_FALSE(with("shuffle = false\n").shuffle);

  const auto error = [&](const std::string& text) {
    const std::string message = error_of([&] { with(text); });
    const std::string path = dir / "run.toml";
    const auto at = message.find(path);
    return at == std::string::npos ? message : message.substr(at + path.size());
  };
  EXPECT_EQ(error("lr = nan\n"), ": lr nan: must be a number above 0");
  EXPECT_EQ(error("lr = -inf\n"), ": lr -inf: must be a number above 0");
  EXPECT_EQ(error("steps = 1.5\n"), ": steps 1.5: must be a whole number from 1 to 1e15");
  EXPECT_EQ(error("lr = true\n"), ": lr: must be a number, not a boolean");
  EXPECT_EQ(error("shuffle = 1\n"), ": shuffle: must be true or false, not an integer");
  EXPECT_EQ(error("out = 3\n"), ": out: must be a string, not an integer");
  EXPECT_EQ(error("lr = [1]\n"), ": lr: must be a number, not an array");
  EXPECT_EQ(error("train = [1]\n"),
            ": train: must be a string or an array of strings, not an integer");
  EXPECT_EQ(error("micro_batch = 4\n"), ": micro_batch: no such option; did you mean micro-batch?");
  EXPECT_EQ(error("[train]\nlr = 1\n"),
            ": train: must be a string or an array of strings, not a table");
  EXPECT_EQ(error("[optimisation]\nlr = 1\n"),
            ": optimisation: no such option; options stand outside of tables");
  EXPECT_EQ(error("\"lay\\ners\" = 1\n"), ": lay\\ners: no such option; did you mean layers?");
  EXPECT_EQ(error("model = \"a\\u001b[2J\"\n").substr(0, 21), ": model a\\u001b[2J: m");
  EXPECT_EQ(error("\n" + std::string(100000, 'a') + " = 1\n"),
            ": " + std::string(200, 'a') + "...: no such option; see lathe --help");
  EXPECT_EQ(error("\na.b.c.d.e.f.g.h.i = 1\n"),
            ":2: a name of more than 8 parts; an option's has one");
  EXPECT_EQ(error("a.b.c.d.e.f.g.h = 1\n"), ": a: no such option; options stand outside of tables");
  // Inside of strings and between values dots are dots.
  EXPECT_EQ(
      with("train = ['a.b.c.d.e.f.g.h.i.j.bin', \"\\\".....\", \"\"\"a\"b.........\"\"\"\"\"]\n")
          .train.size(),
      3);
  EXPECT_EQ(error("train = [\"\"\"a\"\"\"\", {b.c.d.e.f.g.h.i.j.k = 1}]\n"),
            ":1: a name of more than 8 parts; an option's has one");
  EXPECT_EQ(error("\nx = 'y' # .........\na.'.b=' . \"c\\\"=\".d.e.f.g.h.i.j = 1\n"),
            ":3: a name of more than 8 parts; an option's has one");
  EXPECT_EQ(error("config = 'other.toml'\n"), ": config: a file of options cannot name another");
  EXPECT_EQ(error("steps = 1\nepochs = 2\n").substr(0, 13), ": epochs 2 an");
  EXPECT_EQ(error("lr = \n").substr(0, 4), ":1: ");
  EXPECT_EQ(error("lr = 1\nlr = 2\n").substr(0, 4), ":2: ");
  EXPECT_EQ(train_error({"--config", "/nowhere.toml"}), "2: /nowhere.toml: no such file");
  EXPECT_EQ(train_error({"--config", "/"}), "2: /: must be a TOML file, not a folder");
  EXPECT_EQ(train_error({"--config", "/dev/zero"}),
            "2: /dev/zero: must be a TOML file of at most 1 MiB");

  // Another command reads the same file and takes what concerns it.
  const std::string config = dir.write("run.toml", "lr = 1\nmicro-batch = 9\n");
  EXPECT_EQ(parse_options(Command::bench, Args{"--config", config}, {}).micro_batch, 9);
}

// Gives every option some allowed value.
class RandomValue {
 public:
  RandomValue(Options& options, const OptionSpec& option, std::uint64_t index)
      : options_(options), option_(option), index_(index) {}

  void operator()(std::string Options::*member) {
    const std::string_view choices = option_.choices;
    options_.*member = choices.empty() ? text() : std::string(choices.substr(0, choices.find('|')));
  }
  void operator()(std::optional<std::string> Options::*member) { options_.*member = text(); }
  void operator()(std::int64_t Options::*member) {
    const auto span = static_cast<double>(option_.integers.most - option_.integers.least);
    options_.*member = option_.integers.least + static_cast<std::int64_t>(unit() * span);
  }
  void operator()(std::uint64_t Options::*member) {
    options_.*member = static_cast<std::uint64_t>(unit() * 0x1p63);
  }
  void operator()(double Options::*member) {
    const double value =
        option_.reals.most == 1 ? unit() : unit() * std::pow(10, 600 * unit() - 300);
    options_.*member = std::max(value, option_.reals.least);
  }
  void operator()(bool Options::*member) { options_.*member = unit() < 0.5; }
  void operator()(std::vector<std::string> Options::*member) {
    options_.*member = {text(), text()};
  }

 private:
  double unit() {
    return uniform({.seed = 9, .stream = RandomStream::sampling, .substream = draws_++}, index_);
  }
  std::string text() {
    const std::string pieces[] = {"a", "\"", "\\", "\n", "\t", "\x01", "\x7f", "ü",
                                  "€", "𝄞",  "]",  "'",  "=",  "#",    " ",    "*"};
    std::string result = "x";
    while (unit() < 0.9) result += pieces[static_cast<std::size_t>(unit() * std::size(pieces))];
    return result;
  }

  Options& options_;
  const OptionSpec& option_;
  std::uint64_t index_;
  std::uint32_t draws_ = 0;
};

TEST(Options, TomlReadsBackToTheSameBits) {
  const TempDir dir;
  for (std::uint64_t round = 0; round < 200; ++round) {
    Options options = default_options();
    std::uint64_t index = round * option_table().size();
    for (const OptionSpec& option : option_table()) {
      ++index;
      if (option.on_resume == OnResume::never_saved) continue;
      std::visit(RandomValue(options, option, index), option.member);
    }
    // One length of a run, each in turn.
    if (round % 3 != 0) options.steps = 0;
    if (round % 3 != 1) options.tokens = 0;
    if (round % 3 != 2) options.epochs = 0;
    options.config = dir.write("config.toml", to_toml(options));
    ASSERT_TRUE(train({"--config", options.config}) == options) << to_toml(options);
  }
}

TEST(Options, TomlLeavesOutWhatBelongsToTheCommandLine) {
  Options options = train({"--stop-at-step", "3", "--overwrite", "--out", "x", "--threads", "3"});
  resolve(options);
  const std::string toml = to_toml(options);
  for (const char* name : {"stop-at-step", "overwrite", "out", "threads", "resume", "config"}) {
    EXPECT_EQ(toml.find("\n" + std::string(name) + " ="), std::string::npos) << name;
  }
  EXPECT_NE(toml.find("\nbatch-tokens = 512\n"), std::string::npos) << toml;
}

class Resume : public testing::Test {
 protected:
  Resume() {
    Options options =
        train({"--train", "a.txt", "--lr", "1e-3", "--steps", "100", "--layers", "2"});
    resolve(options);
    dir_.write("run/config.toml", to_toml(options));
    dir_.write("run/checkpoints/step-00000010/state.json", "{}");
    out_ = dir_ / "run";
  }

  std::string refusal(Args more) {
    more.insert(more.begin(), {"--resume", "--out", out_});
    std::string message = train_error(more);
    const auto at = message.find(out_);
    return at == std::string::npos ? message : message.replace(at, out_.size(), "RUN");
  }

  TempDir dir_;
  std::string out_;
};

TEST_F(Resume, TheRunIsTheBaseAndFlagsOverrideIt) {
  const Options options =
      train({"--out", out_, "--resume", "--micro-batch", "2", "--epochs", "3", "--quiet"},
            {{"LATHE_KEEP", "0"}});
  EXPECT_EQ(options.train, Args{"a.txt"});
  EXPECT_EQ(options.lr, 1e-3);
  EXPECT_EQ(options.layers, 2);
  EXPECT_EQ(options.micro_batch, 2);
  EXPECT_EQ(options.keep, 0);
  EXPECT_EQ(options.epochs, 3);
  EXPECT_EQ(options.steps, 0);
  EXPECT_TRUE(options.quiet);
  EXPECT_EQ(options.resume, "");
  EXPECT_EQ(options.out, out_);
  // The same values once more are no change, however they are written.
  EXPECT_EQ(refusal({"--lr", "0.001", "--train", "a.txt", "--heads", "4", "--seq-len=128",
                     "--model", "tiny", "--vocab", "256", "--precision", "fp32"}),
            "no error");
  // Of several the last one counts.
  EXPECT_EQ(refusal({"--lr", "2", "--precision", "bf16", "--lr", "0.001", "--precision", "fp32"}),
            "no error");
}

TEST_F(Resume, WhatMakesTheRunCannotChange) {
  EXPECT_EQ(refusal({"--lr", "1e-3", "--lr", "2e-3"}).substr(0, 13), "2: --lr 0.002");
  EXPECT_EQ(refusal({"--lr", "2e-3"}),
            "2: --lr 0.002: the run in RUN has 0.001, which --resume cannot change");
  EXPECT_EQ(refusal({"--train", "b.txt"}),
            "2: --train b.txt: the run in RUN has a.txt, which --resume cannot change");
  EXPECT_EQ(refusal({"--val", "b.txt"}),
            "2: --val b.txt: the run in RUN has none, which --resume cannot change");
  EXPECT_EQ(refusal({"--heads", "2"}),
            "2: --heads 2: the run in RUN has 4, which --resume cannot change");
  EXPECT_EQ(refusal({"--no-shuffle"}),
            "2: --no-shuffle false: the run in RUN has true, which --resume cannot change");
  const auto by_variable = error_of([&] {
    train({"--resume", "--out", out_}, {{"LATHE_SEED", "1"}});
  });
  EXPECT_EQ(by_variable.substr(0, 16), "2: LATHE_SEED 1:");
  const std::string config = dir_.write("other.toml", "batch-tokens = 1024\n");
  EXPECT_NE(refusal({"--config", config}).find("batch-tokens 1024: the run in"), std::string::npos);
}

TEST_F(Resume, FindsTheRunAroundAPath) {
  for (const char* path :
       {"run", "run/", "run/checkpoints/step-00000010", "run/checkpoints/step-00000010/"}) {
    const Options options = train({"--resume", dir_ / path});
    EXPECT_EQ(options.lr, 1e-3) << path;
    EXPECT_TRUE(std::filesystem::equivalent(options.out, out_)) << options.out;
  }
  const std::string other = dir_ / "other";
  EXPECT_EQ(train_error({"--resume=" + out_, "--out", other}),
            "2: --resume " + out_ + " and --out " + other + ": must be the same run");
  EXPECT_EQ(train({"--resume=" + out_, "--out", out_ + "/"}).lr, 1e-3);
}

TEST_F(Resume, WithoutARun) {
  const std::string none = dir_ / "none";
  EXPECT_EQ(
      train_error({"--resume", "--out", none}),
      "4: --resume: no run in " + none + ", it has no config.toml; --resume=auto would start one");
  EXPECT_EQ(train_error({"--resume", none}),
            "4: --resume " + none + ": no run folder with a config.toml, nor a checkpoint in one");
  EXPECT_EQ(train({"--resume=auto", "--out", none}).lr, 3e-3);
  EXPECT_EQ(train({"--resume=auto", "--out", out_}).lr, 1e-3);
}

TEST(Resolve, FillsWhatFollowsFromTheRest) {
  Options options = train({"--train", "a", "--model", "gpt2", "--micro-batch", "2"});
  resolve(options);
  EXPECT_EQ(options.seq_len, 1024);
  EXPECT_EQ(options.batch_tokens, 2048);
  EXPECT_EQ(options.precision, "fp32");
  EXPECT_GE(options.threads, 1);
  Options short_context = train({"--context", "32"});
  resolve(short_context);
  EXPECT_EQ(short_context.seq_len, 32);
  Options long_context = train({"--context", "4096"});
  resolve(long_context);
  EXPECT_EQ(long_context.seq_len, 1024);
  const ModelConfig expected = {
      .layers = 12, .heads = 6, .channels = 768, .context = 1024, .vocab = 0};
  EXPECT_EQ(model_config(train({"--model", "d12", "--heads", "6"})), expected);
}

TEST(Resolve, ChecksOptionsAgainstEachOther) {
  const auto error = [](const Args& args) {
    Options options = train(args);
    return error_of([&] { resolve(options); });
  };
  EXPECT_EQ(error({"--seq-len", "129"}),
            "2: --seq-len 129: must be at most the model's --context 128");
  EXPECT_EQ(error({"--micro-batch", "4", "--seq-len", "64", "--batch-tokens", "1000"}),
            "2: --batch-tokens 1000: must be a multiple of 256, which is --micro-batch 4 x "
            "--seq-len 64; the nearest are 768 and 1024");
  EXPECT_EQ(error({"--micro-batch", "4", "--seq-len", "64", "--batch-tokens", "100"}),
            "2: --batch-tokens 100: must be a multiple of 256, which is --micro-batch 4 x "
            "--seq-len 64; the nearest is 256");
  EXPECT_EQ(error({"--heads", "3"}).substr(0, 12), "2: --heads 3");
  EXPECT_EQ(error({"--layers", "1e9"}).substr(0, 11), "2: --layers");
}

TEST(Suggest, KnowsSlipsOfThePen) {
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3);
  EXPECT_EQ(edit_distance("trian", "train"), 1);
  EXPECT_EQ(edit_distance("", "abc"), 3);
  const std::vector<std::string> known = {"micro-batch", "lr", "train"};
  EXPECT_EQ(closest("trian", known), "train");
  EXPECT_EQ(closest("batch", known), "micro-batch");
  EXPECT_EQ(closest("zebra", known), std::nullopt);
  EXPECT_EQ(closest("", known), std::nullopt);
}

}  // namespace
}  // namespace lathe
