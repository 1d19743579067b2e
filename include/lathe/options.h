// Every option of every command, declared once (src/option_table.cpp) and visited for parsing,
// --help, the environment, TOML, the README table and the comparison on --resume.
//
// Values come from: flags > environment LATHE_* > --config file > preset > default. Names are the
// same everywhere: --micro-batch, LATHE_MICRO_BATCH, micro-batch = 4.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace lathe {

struct Options {
  // Data
  std::vector<std::string> train;  // patterns; empty: the embedded stories
  std::vector<std::string> val;    // patterns; empty: split off, or none
  std::string data_format;         // auto | llmc | nanogpt | text
  std::string tokenizer;           // bytes

  // Model. 0: the preset's, or for vocab the tokenizer's.
  std::string model;
  std::int64_t layers, heads, channels, context, vocab;
  std::string init_from;  // checkpoint folder or .safetensors file

  // Batch and horizon. batch_tokens 0: micro_batch * seq_len. seq_len 0: min(context, 1024). At
  // most one of steps, tokens, epochs is not 0; none: one epoch.
  std::int64_t micro_batch, seq_len, batch_tokens;
  std::int64_t steps, tokens;
  double epochs;
  std::int64_t stop_at_step;  // 0: none

  // Optimizer
  double lr;
  std::string lr_schedule;  // cosine | linear | constant | wsd
  std::int64_t warmup_steps;
  double final_lr_fraction, weight_decay, beta1, beta2, eps, grad_clip;
  std::uint64_t seed;
  bool shuffle;

  // Run
  std::int64_t val_every, val_tokens, sample_every, log_every, checkpoint_every, keep;
  std::string out;
  std::optional<std::string> resume;  // "" newest checkpoint of --out, "auto", or a path
  bool overwrite, quiet;

  // Device
  std::string device;     // auto | cpu | cuda
  std::string precision;  // fp32 | bf16
  std::int64_t threads;   // 0: what this process may use
  std::string recompute;  // none | block

  // Other commands
  std::vector<std::string> paths;  // positional: inspect FILES, plot RUNS
  std::string checkpoint;          // eval, sample: checkpoint or run folder
  std::string prompt;
  std::int64_t max_tokens, top_k;
  double temperature;
  std::string svg;  // plot: file to write
  bool json;        // bench, inspect, plan, eval: one object on stdout
};

}  // namespace lathe
