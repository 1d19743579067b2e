// The multiple-choice tasks that a run measures itself by, with every validation.
#pragma once

#include <cstdint>
#include <vector>

#include "lathe/multiple_choice.h"
#include "lathe/options.h"
#include "lathe/run_folder.h"
#include "lathe/training_data.h"

namespace lathe {

// Those of --multiple-choice, checked against the model that `data` is for. Errors: data, usage.
std::vector<MultipleChoiceTask> open_training_tasks(const Options& options,
                                                    const TrainingData& data);

// Answers them and writes metrics and log. A stop signal leaves out what is not done.
void answer(const std::vector<MultipleChoiceTask>& tasks, Gpt2& model, std::int64_t step,
            RunFolder& folder);

}  // namespace lathe
