#include "lathe/resume.h"

#include <fmt/format.h>

#include <algorithm>
#include <system_error>

#include "lathe/error.h"
#include "lathe/horizon.h"
#include "lathe/model_files.h"

namespace lathe {
namespace {

// As find_start, of one rank.
std::optional<CheckpointInfo> found_start(const Options& options) {
  if (!options.resume) return std::nullopt;
  const bool is_path = !options.resume->empty() && *options.resume != "auto";
  std::vector<std::string> problems;
  std::optional<CheckpointInfo> info = is_path ? open_checkpoint(*options.resume, &problems)
                                               : newest_checkpoint(options.out, &problems);
  // A damaged run is not a new one, whatever --resume=auto would start.
  if (!info && !problems.empty()) {
    throw Error(ExitCode::checkpoint, fmt::format("--resume: {}", problems.front()));
  }
  for (const std::string& problem : problems) {
    fmt::print(stderr, "lathe: passed over {}\n", problem);
  }
  if (!info && *options.resume != "auto") {
    throw Error(
        ExitCode::checkpoint,
        fmt::format("--resume: {} holds no checkpoint to go on from; start without --resume",
                    options.out));
  }
  return info;
}

// The first rank says which checkpoint it is.
std::optional<CheckpointInfo> opened_by_all(const std::optional<CheckpointInfo>& of_first,
                                            Communicator& communicator) {
  if (communicator.is_alone()) return of_first;
  const std::string folder = communicator.broadcast(of_first ? of_first->folder.string() : "");
  if (folder.empty()) return std::nullopt;
  std::optional<CheckpointInfo> info = of_first;
  do_together(communicator, [&] {
    if (!communicator.is_first()) info = open_checkpoint(folder);
  });
  return info;
}

}  // namespace

std::optional<CheckpointInfo> agreed_checkpoint(const std::filesystem::path& run_folder,
                                                std::vector<std::string>* problems,
                                                Communicator& communicator) {
  std::optional<CheckpointInfo> info;
  do_together(communicator, [&] {
    if (communicator.is_first()) info = newest_checkpoint(run_folder, problems);
  });
  return opened_by_all(info, communicator);
}

std::optional<CheckpointInfo> find_start(const Options& options, Communicator& communicator) {
  std::optional<CheckpointInfo> info;
  do_together(communicator, [&] {
    if (communicator.is_first()) info = found_start(options);
  });
  return opened_by_all(info, communicator);
}

bool is_of_run(const CheckpointInfo& start, const std::filesystem::path& run_folder) {
  std::error_code ignored;
  return std::ranges::any_of(list_checkpoints(run_folder), [&](const auto& checkpoint) {
    return std::filesystem::equivalent(checkpoint, start.folder, ignored);
  });
}

bool is_at_end(const Options& options, const CheckpointInfo& start, const TrainingData& data) {
  const ModelConfig config = complete_config(options, data.vocab);
  if (!(config == start.config) || options.precision != start.precision) {
    throw Error(ExitCode::checkpoint,
                fmt::format("{}: is of another model or precision than the run's config.toml",
                            start.folder.string()));
  }
  const Horizon horizon = make_horizon(options, data.train.sequences(options.seq_len));
  if (start.state.step > horizon.steps) {
    throw Error(ExitCode::usage,
                fmt::format("--steps {}: the run is at step {} already; must not be below that",
                            horizon.steps, start.state.step));
  }
  return start.state.step == horizon.steps;
}

}  // namespace lathe
