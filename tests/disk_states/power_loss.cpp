#include "power_loss.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <stdexcept>

#include "lathe/checkpoint.h"
#include "lathe/error.h"
#include "lathe/files.h"

namespace lathe::test {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kCheckpoints = "run/checkpoints/";
constexpr std::string_view kStep = "step-";

// N of run/checkpoints/step-N.
std::optional<std::int64_t> step_of(std::string_view path) {
  std::int64_t step = 0;
  if (!path.starts_with(kCheckpoints)) return std::nullopt;
  path.remove_prefix(kCheckpoints.size());
  if (!path.starts_with(kStep)) return std::nullopt;
  path.remove_prefix(kStep.size());
  const auto parsed = std::from_chars(path.data(), path.data() + path.size(), step);
  if (parsed.ptr != path.data() + path.size()) return std::nullopt;
  return step;
}

// What is below `folder` in a state, by its path below that.
DiskState below(const DiskState& state, const std::string& folder) {
  DiskState result;
  const std::string prefix = folder + "/";
  for (auto at = state.lower_bound(prefix); at != state.end() && at->first.starts_with(prefix);
       ++at) {
    result[at->first.substr(prefix.size())] = at->second;
  }
  return result;
}

DiskState read_folder(const fs::path& folder) {
  DiskState state;
  for (const auto& entry : fs::directory_iterator(folder)) {
    state[entry.path().filename().string()] = {
        .kind = DiskEntry::Kind::file, .contents = read_file(entry.path(), ExitCode::checkpoint)};
  }
  return state;
}

std::uint64_t hash_of(const DiskState& state) {
  Checksum checksum;
  const auto add = [&](std::string_view text) {
    const std::string length = fmt::format("{}:", text.size());
    checksum.update(std::as_bytes(std::span(length)));
    checksum.update(std::as_bytes(std::span(text)));
  };
  for (const auto& [path, entry] : state) {
    add(path);
    add(entry.contents);
  }
  return checksum.value();
}

// The disk along the trace, with the checkpoints that the run has committed on it.
class Replay {
 public:
  Replay(const std::vector<FileCall>& trace, const fs::path& root)
      : trace_(trace), root_(root), disk_(root.string()) {}

  bool is_at_end() const { return next_ == trace_.size(); }
  const ModelDisk& disk() const { return disk_; }
  std::int64_t durable_step() const { return durable_step_; }  // 0: none

  void step() {
    const FileCall& call = trace_[next_++];
    disk_.apply(call);
    if (call.result < 0) return;
    if (call.operation == "rename") note_commit(call.other_path);
    if (call.operation == "fsync") note_durable();
  }
  // Whether the run has given that step's name to this.
  bool has_made(std::int64_t step, const DiskState& checkpoint) const {
    const auto made = made_.find(step);
    return made != made_.end() && std::ranges::find(made->second, checkpoint) != made->second.end();
  }

 private:
  void note_commit(const std::string& path) {
    const std::string relative = fs::path(path).lexically_relative(root_).string();
    const auto step = step_of(relative);
    if (step) made_[*step].push_back(below(disk_.running(), relative));
  }
  // Steps go up: what was durable once must not be lost to a later one that is not.
  void note_durable() {
    for (const auto& [path, entry] : disk_.durable()) {
      durable_step_ = std::max(durable_step_, step_of(path).value_or(0));
    }
  }

  const std::vector<FileCall>& trace_;
  fs::path root_;
  ModelDisk disk_;
  std::size_t next_ = 0;
  std::map<std::int64_t, std::vector<DiskState>> made_;
  std::int64_t durable_step_ = 0;
};

class Checker {
 public:
  explicit Checker(const PowerLossSpec& spec) : spec_(spec) {}

  void check(const DiskState& state, const Replay& replay) {
    if (!seen_.insert(hash_of(state)).second) return;
    const fs::path folder = spec_.scratch / "state";
    fs::remove_all(folder);
    write_state(state, folder);
    const std::string problem = problem_of(folder / "run", replay);
    if (!problem.empty()) ++report_.problems[problem];
    if (replay.durable_step() == 0) {
      ++report_.before_checkpoint;
      return;
    }
    keep_sample(state);
    ++report_.checked;
    if (problem.empty()) ++report_.passed;
  }
  PowerLossReport& report() { return report_; }

 private:
  // A line without numbers that differ from state to state; "" when all is well.
  static std::string problem_of(const fs::path& run, const Replay& replay) {
    for (const fs::path& path : list_checkpoints(run)) {
      try {
        const CheckpointInfo info = open_checkpoint(path);
        if (!replay.has_made(info.state.step, read_folder(path))) return "damaged, taken for whole";
      } catch (const Error& error) {
        if (error.code() != ExitCode::checkpoint) return error.what();
        return "half a checkpoint under a checkpoint's name";
      }
    }
    const auto newest = newest_checkpoint(run, nullptr);
    if ((newest ? newest->state.step : 0) >= replay.durable_step()) return "";
    return fmt::format("step {} was durable, found {}", replay.durable_step(),
                       newest ? newest->state.step : 0);
  }
  // Evenly over the states that are to come.
  void keep_sample(const DiskState& state) {
    if (report_.checked * spec_.sample_count < kept_ * spec_.states) return;
    if (kept_ == spec_.sample_count) return;
    write_state(state, spec_.samples / fmt::to_string(kept_++));
  }

  const PowerLossSpec& spec_;
  std::set<std::uint64_t> seen_;
  std::int64_t kept_ = 0;
  PowerLossReport report_;
};

}  // namespace

PowerLossReport check_power_loss(const std::vector<FileCall>& trace, const PowerLossSpec& spec) {
  // A trace with little to lose has no more states; one without a durable checkpoint has none.
  constexpr int kMostRounds = 1000;
  const std::int64_t most_states = 4 * spec.states;
  std::mt19937_64 random(spec.seed);
  Checker checker(spec);
  PowerLossReport& report = checker.report();
  report.prefixes = std::ssize(trace);
  const auto is_enough = [&] {
    return report.checked >= spec.states ||
           report.checked + report.before_checkpoint >= most_states;
  };
  for (int round = 0; round < kMostRounds && !is_enough(); ++round) {
    for (Replay replay(trace, spec.root); !replay.is_at_end();) {
      replay.step();
      checker.check(replay.disk().after_power_loss(random), replay);
    }
  }
  return checker.report();
}

}  // namespace lathe::test
