// The parts of the option table, and what they have in common.
#pragma once

#include <span>

#include "option_table.h"

namespace lathe {

std::span<const OptionSpec> training_options();  // data, model, batch, optimizer
std::span<const OptionSpec> run_options();       // run, device
std::span<const OptionSpec> rank_options();      // what a plan is for many ranks
std::span<const OptionSpec> output_options();    // of the other commands

// Who takes an option.
inline constexpr unsigned kTrain = bit(Command::train);
inline constexpr unsigned kEval = bit(Command::eval);
inline constexpr unsigned kSample = bit(Command::sample);
inline constexpr unsigned kConvert = bit(Command::convert);
inline constexpr unsigned kInspect = bit(Command::inspect);
inline constexpr unsigned kPlan = bit(Command::plan);
inline constexpr unsigned kBench = bit(Command::bench);
inline constexpr unsigned kPlot = bit(Command::plot);
inline constexpr unsigned kLs = bit(Command::ls);
inline constexpr unsigned kTokenize = bit(Command::tokenize);
inline constexpr unsigned kTrainTokenizer = bit(Command::train_tokenizer);
inline constexpr unsigned kVerify = bit(Command::verify);
inline constexpr unsigned kSweep = bit(Command::sweep);
inline constexpr unsigned kReadingText = kTokenize | kTrainTokenizer;
inline constexpr unsigned kTraining = kTrain | kPlan;  // plan takes the command line of train
inline constexpr unsigned kModels = kTrain | kPlan | kBench;
inline constexpr unsigned kLoading = kEval | kSample;

// What a number may be.
inline constexpr IntegerRange kPositive = {.least = 1};
inline constexpr IntegerRange kSequences = {.least = 1, .most = 1'000'000};
inline constexpr RealRange kBelowOne = {.most = 1, .most_included = false};

}  // namespace lathe
