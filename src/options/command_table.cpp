#include <algorithm>

#include "option_table.h"

namespace lathe {
namespace {

constexpr CommandSpec kCommands[] = {
    {.id = Command::train,
     .name = "train",
     .summary = "Train a GPT-2 and write a run folder",
     .description = "Trains a GPT-2 on token shards or text and writes checkpoints, metrics and "
                    "samples into a\nrun folder. Without --train it trains on small stories that "
                    "Lathe makes itself.",
     .example = "lathe train --train 'data/*.txt' --model gpt2 --tokens 10M --out runs/first"},
    {.id = Command::sweep,
     .name = "sweep",
     .summary = "Run a grid of training runs, and go on with it",
     .description = "Trains every run of a grid file, several at a time, each in a folder of its "
                    "own, and prints\n"
                    "which is best. The same command again goes on where it was stopped.",
     .paths = "GRID.toml",
     .takes_one_path = true,
     .own_default = "out",
     .example = "lathe sweep grid.toml --out runs/grid --jobs 2"},
    {.id = Command::eval,
     .name = "eval",
     .summary = "Measure the loss of a model, and its answers to multiple choice",
     .description = "Prints loss, perplexity and bits per byte of a model on text or token shards, "
                    "and how often it\nanswers multiple-choice tasks such as HellaSwag right.",
     .required = {"checkpoint"},
     .example = "lathe eval --checkpoint runs/first --val book.txt"},
    {.id = Command::sample,
     .name = "sample",
     .summary = "Continue a text with a checkpoint",
     .description = "Prints the prompt and what the model makes of it.",
     .required = {"checkpoint"},
     .example = "lathe sample --checkpoint runs/first --prompt 'Once upon a time'"},
    {.id = Command::convert,
     .name = "convert",
     .summary = "Turn a model into that of another program",
     .description = "Reads a model of Lathe, Hugging Face or llm.c and writes it as one of them. "
                    "Values keep their\nbits unless --precision asks for others.",
     .paths = "MODEL",
     .required = {"out"},
     .example = "lathe convert runs/first --out exported"},
    {.id = Command::inspect,
     .name = "inspect",
     .summary = "Explain any file that Lathe reads",
     .description =
         "Says what a token shard, text, model or run folder is and whether it is sound.",
     .paths = "PATH",
     .example = "lathe inspect shard.bin runs/first"},
    {.id = Command::plan,
     .name = "plan",
     .summary = "Print sizes, memory and steps of a run, without starting it",
     .description = "Takes the command line of `lathe train` and prints parameters, memory by "
                    "part, steps, tokens\nand checkpoint size; for many ranks what they send, and "
                    "the predicted time of a step. Allocates\nand writes nothing.",
     .example = "lathe plan --model gpt2 --micro-batch 8 --tokens 10B"},
    {.id = Command::bench,
     .name = "bench",
     .summary = "Time a training step, by operation",
     .description = "Times whole training steps, clipping and AdamW included, on made-up tokens.",
     .example = "lathe bench --model gpt2 --micro-batch 4 --seq-len 64 --precision bf16"},
    {.id = Command::plot,
     .name = "plot",
     .summary = "Draw the loss curves of runs",
     .description =
         "Draws training and validation loss in the terminal, and on request as an SVG or "
         "a page.",
     .paths = "RUN",
     .example = "lathe plot runs/first runs/second --svg loss.svg"},
    {.id = Command::ls,
     .name = "ls",
     .summary = "List runs: whether they run, how far and how good they are",
     .description = "Prints a line for each run in the folders given and below them: its status, "
                    "step and losses, and\nthe options in which the runs differ. A run that was "
                    "killed is told from one that runs.",
     .paths = "RUNS",
     .default_path = "runs",
     .example = "lathe ls runs --sort best_val_loss"},
    {.id = Command::tokenize,
     .name = "tokenize",
     .summary = "Turn text into token shards",
     .description =
         "Writes the tokens of plain text and of .jsonl files, or of stdin (-), as llm.c "
         "shards:\ntrain_000001.bin, ..., val_000000.bin, ... and a dataset.json that "
         "says what they are.",
     .paths = "FILE",
     .required = {"tokenizer", "out"},
     .example = "lathe tokenize --tokenizer gpt2 --out data/books books/*.txt"},
    {.id = Command::train_tokenizer,
     .name = "train-tokenizer",
     .summary = "Learn a tokenizer from text",
     .description = "Learns a byte-level BPE from plain text and .jsonl files, or stdin (-), and "
                    "writes Hugging\nFace's tokenizer files; --tokenizer takes their folder.",
     .paths = "FILE",
     .required = {"vocab", "out"},
     .example = "lathe train-tokenizer --vocab 8192 --out data/bpe books/*.txt"},
    {.id = Command::verify,
     .name = "verify",
     .summary = "Check that checkpoints are whole",
     .description = "Reads every byte of a checkpoint, or of all checkpoints of a run, and says "
                    "what is wrong with\nwhich file. Ends with exit code 4 unless all are whole.",
     .paths = "DIR",
     .example = "lathe verify runs/first"},
};

}  // namespace

std::span<const CommandSpec> command_table() {
  return kCommands;
}

const CommandSpec& command_spec(Command command) {
  return *std::ranges::find(kCommands, command, &CommandSpec::id);
}

}  // namespace lathe
