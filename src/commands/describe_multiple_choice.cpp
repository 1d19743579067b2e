// Descriptions of multiple-choice files.
#include <algorithm>
#include <numeric>

#include "describe.h"
#include "lathe/multiple_choice.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

// Shortest, mean and longest of some lengths.
Facts facts_of(const std::vector<std::size_t>& lengths) {
  const auto [least, most] = std::ranges::minmax(lengths);
  const double sum = std::accumulate(lengths.begin(), lengths.end(), 0.0);
  return {
      {"shortest", least}, {"mean", sum / static_cast<double>(lengths.size())}, {"longest", most}};
}

}  // namespace

Facts describe_multiple_choice(const fs::path& path) {
  const bool is_text = path.extension() == ".jsonl";
  const auto bytes = byte_tokenizer();
  const MultipleChoiceTask task =
      open_multiple_choice(path.string(), [&]() -> const Tokenizer& { return *bytes; });
  std::vector<std::size_t> choices, contexts, completions;
  std::vector<std::int64_t> labels;
  std::int32_t least = task.examples.front().context.front(), most = least;
  const auto see = [&](const std::vector<std::int32_t>& tokens) {
    const auto [low, high] = std::ranges::minmax(tokens);
    least = std::min(least, low);
    most = std::max(most, high);
  };
  for (const MultipleChoiceExample& example : task.examples) {
    choices.push_back(example.completions.size());
    contexts.push_back(example.context.size());
    see(example.context);
    for (const auto& completion : example.completions) {
      completions.push_back(completion.size());
      see(completion);
    }
    labels.resize(std::max(labels.size(), example.completions.size()));
    ++labels[static_cast<std::size_t>(example.label)];
  }
  Facts facts = {{"kind", is_text ? "multiple choice (JSON lines)" : "multiple choice (llm.c)"},
                 {"bytes", fs::file_size(path)},
                 {"examples", task.examples.size()},
                 {"examples_by_label", labels}};
  if (!is_text) facts.update({{"min_token", least}, {"max_token", most}});
  const char* unit = is_text ? "bytes" : "tokens";
  facts["completions_of_an_example"] = facts_of(choices);
  facts[std::string("context_") + unit] = facts_of(contexts);
  facts[std::string("completion_") + unit] = facts_of(completions);
  return facts;
}

}  // namespace lathe
