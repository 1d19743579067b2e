// What --resume finds, and whether the run can go on from there.
#pragma once

#include <filesystem>
#include <optional>

#include "lathe/checkpoint.h"
#include "lathe/communicator.h"
#include "lathe/options.h"
#include "lathe/run_folder.h"
#include "lathe/training_data.h"

namespace lathe {

// The checkpoint that --resume goes on from; none: a new run. Says on stderr which damaged ones it
// passed over. The same on all ranks. Errors: checkpoint, when there is none and --resume=auto does
// not allow that, or when all are damaged.
std::optional<CheckpointInfo> find_start(const Options& options, Communicator& communicator);

// Whether it stands where the run's own checkpoint of that step does.
bool is_of_run(const CheckpointInfo& start, const std::filesystem::path& run_folder);

// Where metrics are cut to go on from a state.
inline ResumedStep resumed_step(const TrainState& state) {
  return {.step = state.step, .is_validated = state.validated_step == state.step};
}

// Whether no step is left to do. Errors: checkpoint, when it is of another model than the run's
// options; usage, when it is beyond the end of the run.
bool is_at_end(const Options& options, const CheckpointInfo& start, const TrainingData& data);

// The newest whole checkpoint of a run, the same on all ranks: as newest_checkpoint, of the first
// one.
std::optional<CheckpointInfo> agreed_checkpoint(const std::filesystem::path& run_folder,
                                                std::vector<std::string>* problems,
                                                Communicator& communicator);

}  // namespace lathe
