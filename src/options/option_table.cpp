#include "option_table.h"

#include <algorithm>
#include <vector>

#include "option_groups.h"

namespace lathe {
namespace {

using enum OptionGroup;

// The stories are small and easy: a high rate, a short run.
constexpr PresetValue kStoriesPreset[] = {
    {"micro-batch", "4"},      {"tokens", "2M"},        {"lr", "3e-3"},
    {"lr-schedule", "cosine"}, {"warmup-steps", "100"}, {"final-lr-fraction", "0"},
    {"weight-decay", "0.1"},   {"beta2", "0.99"},       {"val-every", "500"},
    {"log-every", "50"},
};

constexpr PresetValue kBenchPreset[] = {{"steps", "10"}};

std::vector<OptionSpec> joined() {
  std::vector<OptionSpec> table;
  for (const auto part : {training_options(), run_options(), rank_options(), output_options()}) {
    table.insert(table.end(), part.begin(), part.end());
  }
  return table;
}

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

bool OptionSpec::has_default_in(const CommandSpec& command) const {
  return !initial.empty() && !required_by(command) && command.own_default != name;
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
    case ranks:
      return "Ranks, on paper";
    case output:
      return "Output";
  }
  return "";
}

std::span<const OptionSpec> option_table() {
  static const std::vector<OptionSpec> table = joined();
  return table;
}

const OptionSpec* find_option(std::string_view name) {
  const std::span<const OptionSpec> table = option_table();
  const auto found = std::ranges::find(table, name, &OptionSpec::name);
  return found == table.end() ? nullptr : &*found;
}

std::span<const PresetValue> stories_preset() {
  return kStoriesPreset;
}
std::span<const PresetValue> bench_preset() {
  return kBenchPreset;
}

}  // namespace lathe
