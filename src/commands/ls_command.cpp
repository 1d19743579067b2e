// lathe ls: finds the runs in the folders given and below them, and lists them.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "base/terminal.h"
#include "lathe/commands.h"
#include "lathe/error.h"
#include "run_table.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

// On one line, whatever the paths in it hold; what a file holds is printable in it already.
void tell(const std::string& problem) {
  std::string line;
  for (const char c : problem) {
    const auto byte = static_cast<unsigned char>(c);
    const bool is_control = byte < 0x20 || byte == 0x7F;
    line += is_control ? fmt::format("\\u{:04x}", byte) : std::string(1, c);
  }
  fmt::print(stderr, "lathe: {}\n", line);
}

// A run holds no other; links are not followed, so that nothing comes twice or for ever.
void find_runs(const fs::path& folder, int depth, std::vector<fs::path>& found) {
  constexpr int kDeepest = 8;
  if (is_run(folder)) {
    found.push_back(folder);
    return;
  }
  if (depth == kDeepest) return;
  std::error_code error;
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
    std::error_code ignored;
    const bool is_folder = at->is_directory(ignored) && !at->is_symlink(ignored);
    const bool is_hidden = at->path().filename().native().starts_with('.');
    if (is_folder && !is_hidden) find_runs(at->path(), depth + 1, found);
  }
  if (error) tell(fmt::format("{}: {}", folder.string(), error.message()));
}

// "lr1/seed2" of a run below the folder that was given, the folder's own name where it is the run.
std::string name_in(const fs::path& root, const fs::path& run) {
  const fs::path plain_root = (root / "").lexically_normal().parent_path();
  const fs::path name = run.lexically_normal().lexically_relative(plain_root);
  if (name.empty() || name == ".") {
    std::error_code ignored;
    const fs::path whole = fs::weakly_canonical(run, ignored);
    return whole.filename().string();
  }
  return name.string();
}

std::vector<RunSummary> read_runs(const std::vector<std::string>& roots) {
  std::vector<RunSummary> runs;
  for (const std::string& root : roots) {
    std::error_code ignored;
    if (!fs::is_directory(root, ignored)) {
      throw Error(ExitCode::data,
                  fmt::format("{}: is not a folder; give folders of runs, or runs", root));
    }
    std::vector<fs::path> found;
    find_runs(root, 0, found);
    std::ranges::sort(found);
    if (found.empty()) tell(fmt::format("{}: holds no run", root));
    for (const fs::path& path : found) {
      runs.push_back(summarize_run(path));
      runs.back().name = name_in(root, path);
      for (const std::string& problem : runs.back().problems) tell(problem);
    }
  }
  const auto is_twice = [&](const RunSummary& run) {
    return std::ranges::count(runs, run.name, &RunSummary::name) > 1;
  };
  if (std::ranges::any_of(runs, is_twice)) {
    for (RunSummary& run : runs) run.name = run.path;
  }
  return runs;
}

std::vector<std::string> split(const std::string& names) {
  std::vector<std::string> list;
  for (std::size_t begin = 0, end; begin < names.size(); begin = end + 1) {
    end = std::min(names.find(',', begin), names.size());
    if (end > begin) list.push_back(column_of(names.substr(begin, end - begin)));
  }
  return list;
}

}  // namespace

int ls_command(const Options& options) {
  if (options.json && options.csv) {
    throw Error(ExitCode::usage, "--json and --csv: give one of them");
  }
  const RunTableSpec spec{.columns = split(options.columns),
                          .sort = column_of(options.sort),
                          .reverse = options.reverse,
                          .width = terminal_width()};
  std::vector<RunSummary> runs = read_runs(options.paths);
  sort_runs(runs, spec);
  fmt::print("{}", options.json  ? runs_json(runs)
                   : options.csv ? runs_csv(runs, spec)
                                 : runs_text(runs, spec));
  return 0;
}

}  // namespace lathe
