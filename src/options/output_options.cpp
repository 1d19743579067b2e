// What the other commands read and write.
#include "option_groups.h"

namespace lathe {
namespace {

using enum OptionGroup;
using enum OnResume;

constexpr RealRange kShare = {.most = 1, .least_included = false};
constexpr IntegerRange kShardTokens = {.least = 1, .most = 2'147'483'647};  // an int32 counts them

// clang-format off: a table
constexpr OptionSpec kOutputOptions[] = {
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
    {.name = "floor",
     .member = &Options::floor,
     .initial = "true",
     .group = output,
     .commands = kBench,
     .help =
         "Measure what this machine reaches at best too, and compare; --no-floor leaves it out"},
    {.name = "svg",
     .member = &Options::svg,
     .value = "FILE",
     .group = output,
     .commands = kPlot,
     .help = "Write the picture there too"},
    {.name = "html",
     .member = &Options::html,
     .value = "FILE",
     .group = output,
     .commands = kPlot,
     .help = "Write a page there that shows the curves in a browser, with zoom and read-out"},
    {.name = "columns",
     .member = &Options::columns,
     .value = "NAMES",
     .group = output,
     .commands = kLs,
     .help = "Columns in place of the options that differ: names of options and of result.json's "
             "values, with commas between them"},
    {.name = "sort",
     .member = &Options::sort,
     .value = "NAME",
     .group = output,
     .commands = kLs,
     .help = "Column to sort by, of all there are; runs without a value come last. Without it, by "
             "path"},
    {.name = "reverse",
     .member = &Options::reverse,
     .group = output,
     .commands = kLs,
     .help = "Sort downwards"},
    {.name = "csv",
     .member = &Options::csv,
     .group = output,
     .commands = kLs,
     .help = "Print comma-separated values (RFC 4180), of every column unless --columns names "
             "some"},
    {.name = "jobs",
     .member = &Options::jobs,
     .value = "N",
     .integers = {.least = 1, .most = 1024},
     .group = output,
     .commands = kSweep,
     .help =
         "Runs at a time. Without it, one for each GPU; one on the CPU, and of runs with --gpus"},
    {.name = "retries",
     .member = &Options::retries,
     .value = "N",
     .initial = "0",
     .integers = {.most = 1'000'000},
     .group = output,
     .commands = kSweep,
     .help = "Times to try a run again that has failed, after the others; never one that has "
             "diverged or whose options are refused"},
    {.name = "dry-run",
     .member = &Options::dry_run,
     .group = output,
     .commands = kSweep,
     .help = "Check everything, print the runs and start none"},
    {.name = "json",
     .member = &Options::json,
     .group = output,
     .commands =
         kEval | kSample | kInspect | kPlan | kBench | kReadingText | kVerify | kLs | kSweep,
     .help = "Print JSON: one object; of ls, an array of them"},
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

}  // namespace

std::span<const OptionSpec> output_options() {
  return kOutputOptions;
}

}  // namespace lathe
