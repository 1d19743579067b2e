#include "option_table.h"

#include <algorithm>

#include "lathe/tokenize.h"

namespace lathe {
namespace {

using enum OptionGroup;
using enum OnResume;

constexpr unsigned kTrain = bit(Command::train);
constexpr unsigned kEval = bit(Command::eval);
constexpr unsigned kSample = bit(Command::sample);
constexpr unsigned kConvert = bit(Command::convert);
constexpr unsigned kInspect = bit(Command::inspect);
constexpr unsigned kPlan = bit(Command::plan);
constexpr unsigned kBench = bit(Command::bench);
constexpr unsigned kPlot = bit(Command::plot);
constexpr unsigned kTokenize = bit(Command::tokenize);
constexpr unsigned kTrainTokenizer = bit(Command::train_tokenizer);
constexpr unsigned kReadingText = kTokenize | kTrainTokenizer;
constexpr unsigned kTraining = kTrain | kPlan;  // plan takes the command line of train
constexpr unsigned kModels = kTrain | kPlan | kBench;
constexpr unsigned kLoading = kEval | kSample;

constexpr IntegerRange kPositive = {.least = 1};
constexpr IntegerRange kSequences = {.least = 1, .most = 1'000'000};
constexpr IntegerRange kPositions = {.least = 1, .most = 1'048'576};
constexpr RealRange kAboveZero = {.least_included = false};
constexpr RealRange kNormalFloat = {.least = 1.2e-38};  // kernels take it as fp32
constexpr RealRange kFraction = {.most = 1};
constexpr RealRange kShare = {.most = 1, .least_included = false};
constexpr IntegerRange kShardTokens = {.least = 1, .most = 2'147'483'647};  // an int32 counts them
constexpr RealRange kBelowOne = {.most = 1, .most_included = false};

// clang-format off: a table
const OptionSpec kOptions[] = {
    // Data
    {.name = "train",
     .member = &Options::train,
     .value = "PATTERN...",
     .group = data,
     .commands = kTraining,
     .on_resume = fixed,
     .help = "Files to train on: token shards (.bin), the folder of a dataset, or text (.txt, "
             ".md, .jsonl); globs. Without it, stories that Lathe makes itself"},
    {.name = "val",
     .member = &Options::val,
     .value = "PATTERN...",
     .group = data,
     .commands = kTraining | kEval,
     .on_resume = fixed,
     .help = "Files to validate on. Without it, the last tenth of a text; nothing of shards"},
    {.name = "multiple-choice",
     .member = &Options::multiple_choice,
     .value = "FILE...",
     .group = data,
     .commands = kTraining | kEval,
     .on_resume = may_change,
     .help =
         "Multiple-choice tasks: evaluation files of llm.c, or .jsonl as HellaSwag comes in. In "
         "training, answered with every validation"},
    {.name = "data-format",
     .member = &Options::data_format,
     .choices = "auto|llmc|nanogpt|text|jsonl",
     .initial = "auto",
     .group = data,
     .commands = kTraining | kEval | kInspect | kReadingText,
     .on_resume = fixed,
     .help = "What the files are; auto goes by name and magic number, and never takes raw nanoGPT "
             "tokens for granted"},
    {.name = "tokenizer",
     .member = &Options::tokenizer,
     .value = "NAME",
     .initial = "bytes",
     .group = data,
     .commands = kTraining | kTokenize,
     .on_resume = fixed,
     .help = "How text becomes tokens: bytes, one token for each byte; gpt2; or a path. Of shards "
             "without a dataset.json, how theirs did"},
    {.name = "text-field",
     .member = &Options::text_field,
     .value = "NAME",
     .initial = kDefaultTextField,
     .group = data,
     .commands = kTraining | kEval | kReadingText,
     .on_resume = fixed,
     .help = "Field of a .jsonl line that holds its text"},
    {.name = "document-separator",
     .member = &Options::document_separator,
     .value = "TEXT",
     .group = data,
     .commands = kTraining | kEval | kReadingText,
     .on_resume = fixed,
     .help =
         "What stands between the documents of a plain text, such as '<|endoftext|>', and is no "
         "text itself. Without it a file is one document"},

    // Model
    {.name = "model",
     .member = &Options::model,
     .choices = "tiny|gpt2|gpt2-medium|gpt2-large|gpt2-xl|d12|d24|d36|d48",
     .initial = "tiny",
     .group = model,
     .commands = kModels,
     .on_resume = fixed,
     .help = "Sizes by name; GPT-2's four also by their depth"},
    {.name = "layers",
     .member = &Options::layers,
     .value = "L",
     .integers = kPositive,
     .group = model,
     .commands = kModels,
     .on_resume = fixed,
     .help = "Transformer blocks, instead of the model's"},
    {.name = "heads",
     .member = &Options::heads,
     .value = "H",
     .integers = kPositive,
     .group = model,
     .commands = kModels,
     .on_resume = fixed,
     .help = "Attention heads, instead of the model's; divides the channels"},
    {.name = "channels",
     .member = &Options::channels,
     .value = "C",
     .integers = kPositive,
     .group = model,
     .commands = kModels,
     .on_resume = fixed,
     .help = "Width of the residual stream, instead of the model's"},
    {.name = "context",
     .member = &Options::context,
     .value = "N",
     .integers = kPositions,
     .group = model,
     .commands = kModels,
     .on_resume = fixed,
     .help = "Positions the model has, instead of the model's"},
    {.name = "vocab",
     .member = &Options::vocab,
     .value = "V",
     .integers = kPositive,
     .group = model,
     .commands = kModels | kTrainTokenizer,
     .on_resume = fixed,
     .help =
         "Token ids the model knows, instead of the data's (bytes 256, shards 50257); those that a "
         "new tokenizer shall have"},
    {.name = "init-from",
     .member = &Options::init_from,
     .value = "PATH",
     .group = model,
     .commands = kTraining,
     .on_resume = fixed,
     .help = "Model to take the first parameters and the sizes from: of Lathe, Hugging Face or "
             "llm.c"},
    {.name = "checkpoint",
     .member = &Options::checkpoint,
     .value = "PATH",
     .group = model,
     .commands = kLoading,
     .help = "Run folder for its newest checkpoint, checkpoint, folder of Hugging Face, model file "
             "of llm.c or Lathe"},
    {.name = "to",
     .member = &Options::to,
     .choices = "hf|llmc|lathe",
     .group = model,
     .commands = kConvert,
     .help = "What to make: a folder of Hugging Face, llm.c's model file, Lathe's. Without it, by "
             "the ending of --out: .bin, .safetensors, any other"},

    // Batch and length
    {.name = "micro-batch",
     .member = &Options::micro_batch,
     .value = "B",
     .initial = "4",
     .integers = kSequences,
     .group = batch,
     .commands = kModels | kEval,
     .on_resume = may_change,
     .help = "Sequences that go through the model at once; costs memory"},
    {.name = "seq-len",
     .member = &Options::seq_len,
     .value = "T",
     .integers = kPositions,
     .group = batch,
     .commands = kModels | kEval,
     .on_resume = fixed,
     .help = "Tokens in a sequence. Without it, the model's context, at most 1024"},
    {.name = "batch-tokens",
     .member = &Options::batch_tokens,
     .value = "N",
     .integers = kPositive,
     .group = batch,
     .commands = kModels,
     .on_resume = fixed,
     .help = "Tokens in a step, a multiple of B*T: the rest is accumulated. Without it, B*T"},
    {.name = "steps",
     .member = &Options::steps,
     .value = "N",
     .integers = kPositive,
     .group = batch,
     .commands = kModels,
     .on_resume = may_change,
     .help = "Length of the run in steps; give one of steps, tokens, epochs"},
    {.name = "tokens",
     .member = &Options::tokens,
     .value = "N",
     .integers = kPositive,
     .group = batch,
     .commands = kTraining,
     .on_resume = may_change,
     .help = "Length of the run in tokens: 500M, 10B"},
    {.name = "epochs",
     .member = &Options::epochs,
     .value = "X",
     .reals = kAboveZero,
     .group = batch,
     .commands = kTraining,
     .on_resume = may_change,
     .help = "Length of the run in passes over the data. Without any length, one epoch"},
    {.name = "stop-at-step",
     .member = &Options::stop_at_step,
     .value = "N",
     .integers = kPositive,
     .group = batch,
     .commands = kTrain,
     .help = "Save and end there; the schedule stays that of the whole run"},

    // Optimizer
    {.name = "lr",
     .member = &Options::lr,
     .value = "X",
     .initial = "3e-4",
     .reals = kAboveZero,
     .group = optimizer,
     .commands = kTraining,
     .on_resume = fixed,
     .help = "Highest learning rate"},
    {.name = "lr-schedule",
     .member = &Options::lr_schedule,
     .choices = "cosine|linear|constant|wsd",
     .initial = "cosine",
     .group = optimizer,
     .commands = kTraining,
     .on_resume = fixed,
     .help = "Its course after the warmup"},
    {.name = "warmup-steps",
     .member = &Options::warmup_steps,
     .value = "N",
     .initial = "0",
     .group = optimizer,
     .commands = kTraining,
     .on_resume = fixed,
     .help = "Steps in which the learning rate rises from 0"},
    {.name = "final-lr-fraction",
     .member = &Options::final_lr_fraction,
     .value = "X",
     .initial = "1",
     .reals = kFraction,
     .group = optimizer,
     .commands = kTraining,
     .on_resume = fixed,
     .help = "What is left of the learning rate at the last step"},
    {.name = "weight-decay",
     .member = &Options::weight_decay,
     .value = "X",
     .initial = "0",
     .group = optimizer,
     .commands = kTraining,
     .on_resume = fixed,
     .help = "Decoupled decay of matrices and embeddings"},
    {.name = "beta1",
     .member = &Options::beta1,
     .value = "X",
     .initial = "0.9",
     .reals = kBelowOne,
     .group = optimizer,
     .commands = kTraining,
     .on_resume = fixed,
     .help = "AdamW's decay of the gradient's mean"},
    {.name = "beta2",
     .member = &Options::beta2,
     .value = "X",
     .initial = "0.95",
     .reals = kBelowOne,
     .group = optimizer,
     .commands = kTraining,
     .on_resume = fixed,
     .help = "AdamW's decay of the gradient's square"},
    {.name = "eps",
     .member = &Options::eps,
     .value = "X",
     .initial = "1e-8",
     .reals = kNormalFloat,
     .group = optimizer,
     .commands = kTraining,
     .on_resume = fixed,
     .help = "AdamW's term against division by zero"},
    {.name = "grad-clip",
     .member = &Options::grad_clip,
     .value = "X",
     .initial = "1",
     .group = optimizer,
     .commands = kTraining,
     .on_resume = fixed,
     .help = "Largest norm of the whole gradient; 0 is off"},
    {.name = "seed",
     .member = &Options::seed,
     .value = "N",
     .initial = "1337",
     .integers = {.most = INT64_MAX},
     .group = optimizer,
     .commands = kTraining | kSample,
     .on_resume = fixed,
     .help = "Of parameters, data order and sampling"},
    {.name = "shuffle",
     .member = &Options::shuffle,
     .initial = "true",
     .group = optimizer,
     .commands = kTraining,
     .on_resume = fixed,
     .help = "Take the sequences in an order made from the seed; --no-shuffle in the files' order"},

    // Run
    {.name = "val-every",
     .member = &Options::val_every,
     .value = "N",
     .initial = "250",
     .group = run,
     .commands = kTraining,
     .on_resume = may_change,
     .help = "Steps between validations; 0 only at the end"},
    {.name = "val-tokens",
     .member = &Options::val_tokens,
     .value = "N",
     .initial = "0",
     .group = run,
     .commands = kTraining | kEval,
     .on_resume = may_change,
     .help = "Tokens to validate on; 0 is the whole split, at most 1M"},
    {.name = "sample-every",
     .member = &Options::sample_every,
     .value = "N",
     .initial = "0",
     .group = run,
     .commands = kTraining,
     .on_resume = may_change,
     .help = "Steps between samples; 0 only at the end"},
    {.name = "log-every",
     .member = &Options::log_every,
     .value = "N",
     .initial = "1",
     .integers = kPositive,
     .group = run,
     .commands = kTraining,
     .on_resume = may_change,
     .help = "Steps between lines on the terminal; metrics.jsonl has every step"},
    {.name = "checkpoint-every",
     .member = &Options::checkpoint_every,
     .value = "N",
     .initial = "1000",
     .group = run,
     .commands = kTraining,
     .on_resume = may_change,
     .help = "Steps between checkpoints; 0 only at the end"},
    {.name = "keep",
     .member = &Options::keep,
     .value = "N",
     .initial = "3",
     .group = run,
     .commands = kTraining,
     .on_resume = may_change,
     .help = "Newest checkpoints to keep; 0 keeps all"},
    {.name = "out",
     .member = &Options::out,
     .value = "DIR",
     .initial = "runs/default",
     .group = run,
     .commands = kTraining | kReadingText | kConvert,
     .help = "What to write: a run's folder, that of the shards or of the tokenizer, a model"},
    {.name = "token-cache",
     .member = &Options::token_cache,
     .value = "DIR",
     .group = run,
     .commands = kTraining,
     .on_resume = may_change,
     .help =
         "Folder that keeps the tokens of texts. Without it, token-cache beside the run folder"},
    {.name = "resume",
     .member = &Options::resume,
     .value = "auto|PATH",
     .group = run,
     .commands = kTrain,
     .help = "Continue the run in --out, or that of a run or checkpoint folder; auto starts one "
             "if there is none"},
    {.name = "overwrite",
     .member = &Options::overwrite,
     .group = run,
     .commands = kTraining | kReadingText | kConvert,
     .help = "Replace what is in --out: a run, shards, a tokenizer, a model"},
    {.name = "quiet",
     .member = &Options::quiet,
     .group = run,
     .commands = kTraining | kReadingText,
     .on_resume = may_change,
     .help = "Print only warnings and the end"},
    {.name = "llmc-log",
     .member = &Options::llmc_log,
     .group = run,
     .commands = kTraining,
     .on_resume = may_change,
     .help = "Write main.log too, the losses in the lines of llm.c"},
    {.name = "tensorboard",
     .member = &Options::tensorboard,
     .group = run,
     .commands = kTraining,
     .on_resume = may_change,
     .help = "Write what is in metrics.jsonl as event files for TensorBoard too, into the run "
             "folder's tensorboard/"},
    {.name = "config",
     .member = &Options::config,
     .value = "FILE",
     .group = run,
     .commands = kModels,
     .help = "Flat TOML file of options, such as a run's config.toml"},

    // Device
    {.name = "device",
     .member = &Options::device,
     .choices = "auto|cpu|cuda",
     .initial = "auto",
     .group = device,
     .commands = kModels | kLoading,
     .on_resume = may_change,
     .help = "Where to compute; auto takes a GPU if there is one"},
    {.name = "precision",
     .member = &Options::precision,
     .choices = "fp32|bf16",
     .group = device,
     .commands = kModels | kLoading | kConvert,
     .on_resume = fixed,
     .help = "Type of parameters and activations; sums are fp32. Without it, a model's that is "
             "read, else fp32 on the CPU, bf16 on a GPU"},
    {.name = "threads",
     .member = &Options::threads,
     .value = "N",
     .integers = {.least = 1, .most = 1024},
     .group = device,
     .commands = kModels | kLoading | kReadingText,
     .help = "CPU threads; no result depends on it. Without it, all that the process may use"},
    {.name = "recompute",
     .member = &Options::recompute,
     .choices = "none|block",
     .initial = "none",
     .group = device,
     .commands = kModels,
     .on_resume = may_change,
     .help = "Activations to compute again in the backward pass instead of keeping them"},
    {.name = "tf32",
     .member = &Options::tf32,
     .initial = "false",
     .group = device,
     .commands = kModels | kLoading,
     .on_resume = may_change,
     .help = "On a GPU, fp32 products on tensor cores, whose factors have 10 bits after the point"},
    {.name = "gemm-tuning",
     .member = &Options::gemm_tuning,
     .choices = "on|off",
     .initial = "on",
     .group = device,
     .commands = kModels | kLoading,
     .on_resume = may_change,
     .help = "On a GPU, time cuBLASLt's candidates for every product; off takes its first"},
    {.name = "gemm-plans",
     .member = &Options::gemm_plans,
     .value = "FILE",
     .group = device,
     .commands = kModels,
     .help = "On a GPU, the gemm_plans.json of an earlier run, to get its very bits"},
    {.name = "profile-steps",
     .member = &Options::profile_steps,
     .value = "A:B",
     .group = device,
     .commands = kTrain,
     .help =
         "On a GPU, the steps that a profiler such as Nsight Systems sees, with every operation "
         "under its name"},
    {.name = "graph",
     .member = &Options::graph,
     .initial = "true",
     .group = device,
     .commands = kModels,
     .on_resume = may_change,
     .help = "On a GPU, record a micro-step once and replay it; --no-graph hands over each kernel"},

    // Output of the other commands
    {.name = "prompt",
     .member = &Options::prompt,
     .value = "TEXT",
     .group = output,
     .commands = kSample,
     .help = "Text to continue"},
    {.name = "prompt-file",
     .member = &Options::prompt_file,
     .value = "FILE",
     .group = output,
     .commands = kSample,
     .help = "File of the text to continue, to its last byte; - reads stdin"},
    {.name = "samples",
     .member = &Options::samples,
     .value = "N",
     .initial = "1",
     .integers = kSequences,
     .group = output,
     .commands = kSample,
     .help = "Continuations to make; each is the same however many there are"},
    {.name = "max-tokens",
     .member = &Options::max_tokens,
     .value = "N",
     .initial = "256",
     .integers = kPositive,
     .group = output,
     .commands = kSample,
     .help = "Tokens to make of each sample"},
    {.name = "temperature",
     .member = &Options::temperature,
     .value = "X",
     .initial = "0.8",
     .group = output,
     .commands = kSample,
     .help = "0 takes the likeliest token, 1 samples as is"},
    {.name = "top-k",
     .member = &Options::top_k,
     .value = "N",
     .initial = "0",
     .group = output,
     .commands = kSample,
     .help = "Sample among the N likeliest tokens; 0 among all"},
    {.name = "top-p",
     .member = &Options::top_p,
     .value = "X",
     .initial = "1",
     .reals = kShare,
     .group = output,
     .commands = kSample,
     .help = "Of those, among the likeliest that together have probability X; 1 among all"},
    {.name = "stop-at-end",
     .member = &Options::stop_at_end,
     .initial = "true",
     .group = output,
     .commands = kSample,
     .help = "End a sample at the end-of-text token; --no-stop-at-end goes on"},
    {.name = "kv-cache",
     .member = &Options::kv_cache,
     .initial = "true",
     .group = output,
     .commands = kSample,
     .help =
         "Keep keys and values of earlier positions; --no-kv-cache computes them anew for every "
         "token"},
    {.name = "svg",
     .member = &Options::svg,
     .value = "FILE",
     .group = output,
     .commands = kPlot,
     .help = "Write the picture there too"},
    {.name = "json",
     .member = &Options::json,
     .group = output,
     .commands = kEval | kSample | kInspect | kPlan | kBench | kReadingText,
     .help = "Print one JSON object"},
    {.name = "shard-tokens",
     .member = &Options::shard_tokens,
     .value = "N",
     .initial = "100M",
     .integers = kShardTokens,
     .group = output,
     .commands = kTokenize,
     .help = "Tokens in a shard; the last one has what is left"},
    {.name = "val-fraction",
     .member = &Options::val_fraction,
     .value = "F",
     .reals = kBelowOne,
     .group = output,
     .commands = kTokenize,
     .help =
         "What validates: of each file its end, of .jsonl and of separated documents every 1/F. "
         "Without it the first shard, or the last tenth of an only one"},
};
// clang-format on

// The stories are small and easy: a high rate, a short run.
constexpr PresetValue kStoriesPreset[] = {
    {"micro-batch", "4"},      {"tokens", "2M"},        {"lr", "3e-3"},
    {"lr-schedule", "cosine"}, {"warmup-steps", "100"}, {"final-lr-fraction", "0"},
    {"weight-decay", "0.1"},   {"beta2", "0.99"},       {"val-every", "500"},
    {"log-every", "50"},
};

constexpr PresetValue kBenchPreset[] = {{"steps", "10"}};

}  // namespace

bool OptionSpec::is_number() const {
  return std::holds_alternative<std::int64_t Options::*>(member) ||
         std::holds_alternative<std::uint64_t Options::*>(member) ||
         std::holds_alternative<double Options::*>(member);
}

bool OptionSpec::taken_by(Command command) const {
  return (commands & bit(command)) != 0;
}

bool OptionSpec::required_by(const CommandSpec& command) const {
  return std::ranges::find(command.required, name) != command.required.end();
}

std::string_view title(OptionGroup group) {
  switch (group) {
    case data:
      return "Data";
    case model:
      return "Model";
    case batch:
      return "Batch and length";
    case optimizer:
      return "Optimizer";
    case run:
      return "Run";
    case device:
      return "Device";
    case output:
      return "Output";
  }
  return "";
}

std::span<const OptionSpec> option_table() {
  return kOptions;
}

const OptionSpec* find_option(std::string_view name) {
  const auto* found = std::ranges::find(kOptions, name, &OptionSpec::name);
  return found == std::end(kOptions) ? nullptr : found;
}

std::span<const PresetValue> stories_preset() {
  return kStoriesPreset;
}
std::span<const PresetValue> bench_preset() {
  return kBenchPreset;
}

}  // namespace lathe
