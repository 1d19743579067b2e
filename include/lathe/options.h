// Every option of every command, declared once (src/options/*_options.cpp) and visited for parsing,
// --help, the environment, TOML, the README table and the comparison on --resume.
//
// Values come from: flags > environment LATHE_* > --config file > (the run's config.toml, when
// resuming) > preset > default. Names are the same everywhere: --micro-batch, LATHE_MICRO_BATCH,
// micro-batch = 4.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "lathe/model_config.h"

namespace lathe {

// An integer option that has been given as a word.
inline constexpr std::int64_t kWord = -1;

// An empty string or list, 0 and nullopt mean "not set" where the table does not allow them as a
// value: Options{} has nothing set, default_options() has the defaults.
struct Options {
  // Data
  std::vector<std::string> train;            // patterns; empty: the embedded stories
  std::vector<std::string> val;              // patterns; empty: split off, or none
  std::string data_format;                   // auto | llmc | nanogpt | text | jsonl
  std::string tokenizer;                     // bytes, gpt2 or a path
  std::string text_field;                    // of a line of .jsonl
  std::string document_separator;            // in plain text; empty: a file is a document
  std::vector<std::string> multiple_choice;  // files of tasks

  // Model. 0: the preset's, or for vocab the tokenizer's. model and tokenizer "": those of
  // init_from.
  std::string model;
  std::int64_t layers = 0, heads = 0, channels = 0, context = 0, vocab = 0;
  std::string init_from;  // a model of any kind that open_model() knows

  // Batch and horizon. batch_tokens 0: micro_batch * seq_len. seq_len 0: min(context, 1024). At
  // most one of steps, tokens, epochs is not 0; none: one epoch.
  std::int64_t micro_batch = 0, seq_len = 0, batch_tokens = 0;
  std::int64_t steps = 0, tokens = 0;
  double epochs = 0;
  std::int64_t stop_at_step = 0;     // 0: none
  std::string max_time;              // parse_duration; empty: no limit
  std::vector<std::string> stop_if;  // parse_stop_rule
  double target_val_loss = 0;        // 0: none
  std::int64_t patience = 0;         // validations; 0: without end

  // Optimizer
  double lr = 0;
  std::string lr_schedule;  // cosine | linear | constant | wsd
  std::int64_t warmup_steps = 0;
  double final_lr_fraction = 0, weight_decay = 0, beta1 = 0, beta2 = 0, eps = 0, grad_clip = 0;
  std::uint64_t seed = 0;
  bool shuffle = false;

  // Numbers going wrong. z-scores of 0 are off.
  std::string on_nonfinite;    // skip | stop | rollback
  std::int64_t max_skips = 0;  // in a row
  double loss_spike_z = 0, norm_spike_z = 0;
  std::int64_t spike_window = 0;  // steps
  bool check_finite = false;

  // Run. An interval of 0 is off; val_tokens 0: the whole split, at most a million; keep 0: all.
  std::int64_t val_every = 0, val_tokens = 0, sample_every = 0, log_every = 0;
  std::int64_t checkpoint_every = 0, keep = 0, keep_every = 0;
  bool keep_best = false, background_save = false;
  std::int64_t save_retries = 0;
  double save_retry_seconds = 0;
  std::string out;                    // parse_options makes it the run's own folder, with its name
  std::string name;                   // run_name(); empty: `out` is the run's folder
  std::string token_cache;            // folder; empty: beside `out`
  std::optional<std::string> resume;  // "" newest checkpoint of --out, "auto", or a path
  bool overwrite = false, quiet = false, llmc_log = false, tensorboard = false;
  std::string config;  // the --config file

  // Device
  std::string device;                 // auto | cpu | cuda
  std::string precision;              // fp32 | bf16
  std::int64_t threads = 0;           // 0: what this process may use, or its share of that
  std::string rank_timeout;           // parse_duration
  std::int64_t rank_check_every = 0;  // steps; 0: never
  std::string recompute;              // none | block
  bool tf32 = false, graph = false;
  std::string gemm_tuning;    // on | off
  std::string gemm_plans;     // file to take plans from
  std::string trace;          // file to write; empty: none
  std::string profile_steps;  // "A:B"; parse_step_range

  std::int64_t gpus = 0;  // ranks_per_node(); 0: not given, kWord: all

  // Ranks, on paper. 0: not given
  std::int64_t nodes = 0;
  double gemm_tflops = 0, memory_gbytes = 0;
  double link_gbytes = 0, link_microseconds = 0, node_link_gbytes = 0, node_link_microseconds = 0;

  // Other commands
  std::vector<std::string> paths;   // positional: inspect, tokenize FILES, plot RUNS, convert MODEL
  std::string checkpoint;           // eval, sample: a model of any kind that open_model() knows
  std::string to;                   // convert: hf | llmc | lathe
  std::string prompt, prompt_file;  // prompt_file "-": stdin
  std::int64_t samples = 0, max_tokens = 0, top_k = 0;  // top_k 0: all
  double temperature = 0, top_p = 0;
  bool kv_cache = false, stop_at_end = false;
  std::string svg, html;      // plot: files to write
  std::string columns, sort;  // ls: names between commas, in place of options that differ; a name
  bool reverse = false, csv = false;
  std::int64_t jobs = 0, retries = 0;  // sweep; jobs 0: one for each GPU
  bool dry_run = false;                // sweep
  bool floor = false;                  // bench: measure the machine too
  bool json = false;  // eval, sample, inspect, plan, bench, tokenize: one object on stdout
  std::int64_t shard_tokens = 0;
  double val_fraction = -1;  // below 0: the first shard validates

  bool operator==(const Options&) const = default;
};

enum class Command {
  train,
  eval,
  sample,
  convert,
  inspect,
  plan,
  bench,
  plot,
  ls,
  tokenize,
  train_tokenizer,
  verify,
  sweep
};

// Variables by full name, "LATHE_LR"; others are ignored.
using Environment = std::map<std::string, std::string>;
Environment process_environment();

Options default_options();

// Merges all sources; with --name, `out` is then the folder of that name. Reads the --config file
// and, on --resume, the config.toml of the run, with `out` then the run folder. `args` begin after
// the command's name. Throws Error: usage for anything wrong with an option, checkpoint for
// --resume without a run.
Options parse_options(Command command, std::span<const std::string> args,
                      const Environment& environment);

// Steps A to B of "A:B", counted from 1. Throws Error(usage) naming --profile-steps.
struct StepRange {
  std::int64_t first, last;
};
StepRange parse_step_range(const std::string& text);

// Seconds of "3h55m": whole or broken numbers of d, h, m, s, or one of seconds. Throws Error(usage)
// naming the option.
double parse_duration(const std::string& option, const std::string& text);

// The sizes of --model with --layers and so on in their place. vocab is 0 unless given: the data's.
ModelConfig model_config(const Options& options);

// Whether --device is cuda, or auto where there is a GPU or --gpus asks for some.
bool uses_gpu(const Options& options);

// Of --gpus, all being those that this process sees; 0: not given. Errors: usage, where it sees
// none.
std::int64_t ranks_per_node(const Options& options);

// The checks that need no data; fills seq_len, batch_tokens, precision and threads.
// Throws Error(usage).
struct Ranks {
  int all = 1, on_this_machine = 1;
};
void resolve(Options& options, Ranks ranks = {});

// A run's config.toml: every option that is set and saved. Reads back to the same values, bit for
// bit, through --config.
std::string to_toml(const Options& options);

}  // namespace lathe
