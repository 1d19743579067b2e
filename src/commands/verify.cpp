// lathe verify: reads checkpoints as --resume would, every one of a run, and says what it found.
#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <vector>

#include "lathe/checkpoint.h"
#include "lathe/commands.h"
#include "lathe/error.h"
#include "run/disk_space.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

// Those of a run, or the folder itself. Error(checkpoint) where there is none.
std::vector<fs::path> checkpoints_in(const fs::path& path) {
  std::error_code ignored;
  if (!fs::is_directory(path, ignored)) {
    throw Error(
        ExitCode::checkpoint,
        fmt::format("{}: {}", path.string(),
                    fs::exists(path, ignored) ? "is a file, must be a checkpoint or run folder"
                                              : "no such checkpoint or run folder"));
  }
  if (!fs::is_directory(path / "checkpoints", ignored)) return {path};
  std::vector<fs::path> checkpoints = list_checkpoints(path);
  if (!checkpoints.empty()) return checkpoints;
  throw Error(ExitCode::checkpoint, fmt::format("{}: has no checkpoint yet", path.string()));
}

// What is said of one: "whole" tells whether it can be gone on from.
nlohmann::ordered_json verdict_of(const fs::path& checkpoint) {
  nlohmann::ordered_json verdict = {{"path", checkpoint.string()}};
  try {
    const CheckpointInfo info = open_checkpoint(checkpoint);
    verdict["whole"] = true;
    verdict["step"] = info.state.step;
    verdict["bytes"] = bytes_in(checkpoint);
  } catch (const Error& error) {
    verdict["whole"] = false;
    verdict["problem"] = error.what();
  }
  return verdict;
}

void print(const nlohmann::ordered_json& verdict) {
  if (verdict.at("whole").get<bool>()) {
    fmt::print("{}: whole, step {}, {} bytes\n", verdict.at("path").get<std::string>(),
               verdict.at("step").get<std::int64_t>(), verdict.at("bytes").get<std::uint64_t>());
  } else {
    fmt::print("{}\n", verdict.at("problem").get<std::string>());
  }
}

}  // namespace

int verify_command(const Options& options) {
  auto verdicts = nlohmann::ordered_json::array();
  bool all_whole = true;
  for (const std::string& path : options.paths) {
    for (const fs::path& checkpoint : checkpoints_in(path)) {
      verdicts.push_back(verdict_of(checkpoint));
      all_whole = all_whole && verdicts.back().at("whole").get<bool>();
      if (!options.json) print(verdicts.back());
    }
  }
  if (options.json) {
    const nlohmann::ordered_json json = {{"whole", all_whole}, {"checkpoints", verdicts}};
    fmt::print("{}\n", json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  }
  return all_whole ? 0 : static_cast<int>(ExitCode::checkpoint);
}

}  // namespace lathe
