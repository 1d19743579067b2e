#include "training_tasks.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "lathe/error.h"

namespace lathe {
namespace {

// What metrics call a task: its file's name without folder and ending.
std::string task_name(const MultipleChoiceTask& task) {
  return std::filesystem::path(task.name).stem().string();
}

}  // namespace

std::vector<MultipleChoiceTask> open_training_tasks(const Options& options,
                                                    const TrainingData& data) {
  const auto tokenizer = [&]() -> const Tokenizer& {
    if (data.tokenizer) return *data.tokenizer;
    throw Error(ExitCode::usage,
                "--multiple-choice: needs files of tokens (.bin) where the training data are "
                "tokens whose tokenizer is not known");
  };
  std::vector<MultipleChoiceTask> tasks;
  for (const std::string& path : options.multiple_choice) {
    MultipleChoiceTask task = open_multiple_choice(path, tokenizer);
    require_fit(task, data.vocab, options.seq_len);
    if (std::ranges::find(tasks, task_name(task), task_name) != tasks.end()) {
      throw Error(
          ExitCode::usage,
          fmt::format("--multiple-choice {}: another file is called {} as well, and metrics "
                      "go by that name",
                      path, task_name(task)));
    }
    tasks.push_back(std::move(task));
  }
  return tasks;
}

void answer(const std::vector<MultipleChoiceTask>& tasks, Gpt2& model, std::int64_t step,
            RunFolder& folder) {
  for (const MultipleChoiceTask& task : tasks) {
    const auto scores = score(model, task);
    if (!scores) return;
    const MultipleChoiceAccuracy accuracy = grade(task, *scores, /*tokenizer=*/nullptr);
    const std::string name = task_name(task);
    folder.metrics(step, {{"val/" + name + "/acc", accuracy.by_sum.value},
                          {"val/" + name + "/acc_norm", accuracy.by_token.value}});
    if (&task == &tasks.front()) folder.main_accuracy(step, accuracy.by_token.value);
    folder.say(fmt::format("val  {} | {} | acc {:.4f} | acc_norm {:.4f} +- {:.4f}", step, name,
                           accuracy.by_sum.value, accuracy.by_token.value,
                           accuracy.by_token.standard_error));
  }
}

}  // namespace lathe
