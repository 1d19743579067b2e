// Merging: every source is a Level of settings, applied from the lowest to the highest, so that
// what is applied last counts. The rules that concern several options at once stand here.
#include "lathe/options.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <thread>

#include "base/file_kind.h"
#include "lathe/backend.h"
#include "lathe/checkpoint.h"
#include "lathe/cuda.h"
#include "lathe/error.h"
#include "lathe/scale.h"
#include "lathe/stop_rules.h"
#include "option_sources.h"
#include "run_name.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

bool is_length(const OptionSpec& option) {
  return option.member == OptionMember(&Options::steps) ||
         option.member == OptionMember(&Options::tokens) ||
         option.member == OptionMember(&Options::epochs);
}

// A length of the run replaces whatever length lower levels gave.
void apply_level(Options& options, const Level& level) {
  const Setting* length = nullptr;
  for (const Setting& setting : level) {
    if (!is_length(*setting.option)) continue;
    if (length != nullptr && length->option != setting.option) {
      usage_error(fmt::format("{} {} and {} {}: give one of --steps, --tokens, --epochs",
                              length->origin, on_one_line(length->values.front()), setting.origin,
                              on_one_line(setting.values.front())));
    }
    length = &setting;
    options.steps = options.tokens = 0;
    options.epochs = 0;
  }
  for (const Setting& setting : level) apply(options, setting);
}

Options merge(std::span<const Level> levels) {
  Options options = default_options();
  for (const Level& level : levels) apply_level(options, level);
  return options;
}

// What stands below everything the user says, once it is known what that is.
Level preset(Command command, const Options& said) {
  if (command == Command::bench) return read_preset(command, bench_preset());
  const bool trains = command == Command::train || command == Command::plan;
  if (trains && said.train.empty()) return read_preset(command, stories_preset());
  return {};
}

const Setting* find(std::span<const Level> levels, OptionMember member) {
  const Setting* found = nullptr;
  for (const Level& level : levels) {
    for (const Setting& setting : level) {
      if (setting.option->member == member) found = &setting;
    }
  }
  return found;
}

// What --init-from brings (open_initial_model), unless it is said.
void leave_to_initial_model(Options& options, std::span<const Level> levels) {
  if (options.init_from.empty()) return;
  if (find(levels, &Options::model) == nullptr) options.model.clear();
  if (find(levels, &Options::tokenizer) == nullptr) options.tokenizer.clear();
}

// All that is said, above what is preset and the defaults.
Options with_preset(Command command, std::vector<Level> levels) {
  levels.insert(levels.begin(), preset(command, merge(levels)));
  Options options = merge(levels);
  leave_to_initial_model(options, levels);
  return options;
}

// Makes --out the folder that --name names in it. Its values are those that this command gives, as
// a run to resume has to be found by them.
void add_name(Command command, std::vector<Level>& levels) {
  const Setting* name = find(levels, &Options::name);
  if (name == nullptr) return;
  const Options options = with_preset(command, levels);
  const bool is_out_said = find(levels, &Options::out) != nullptr;
  const fs::path folder = is_out_said ? fs::path(options.out) : fs::path(options.out).parent_path();
  if (folder_kind(folder) == FolderKind::run) {
    usage_error(
        fmt::format("--out {}: is a run's own folder; with --name it is the one that runs "
                    "lie in",
                    folder.string()));
  }
  const fs::path run = folder / run_name(options.name, options);
  levels.push_back({{find_option("out"), {run.string()}, name->origin}});
}

// What a resumed run has saved may be other than what named it.
void check_name(const Options& options, const Options& said) {
  if (options.name.empty()) return;
  const std::string name = run_name(options.name, options);
  if (fs::path(said.out).filename() == name) return;
  usage_error(
      fmt::format("--name {}: by the options of the run to resume its name is {}, and {} "
                  "by those given; give the same ones",
                  on_one_line(options.name), name, fs::path(said.out).filename().string()));
}

fs::path config_of(const fs::path& run) {
  return run / "config.toml";
}

// A run to continue, and the file that says how it was started.
struct ResumedRun {
  fs::path folder;
  fs::path config;
};

// What the checkpoints of a run say of its options, the newest first.
std::optional<fs::path> options_of_checkpoints(const fs::path& run) {
  std::vector<fs::path> checkpoints = list_checkpoints(run);
  std::ranges::reverse(checkpoints);
  for (const fs::path& checkpoint : checkpoints) {
    if (auto config = options_of_checkpoint(checkpoint)) return config;
  }
  return std::nullopt;
}

// A run's own config.toml or, where that has gone, a checkpoint's.
std::optional<ResumedRun> run_in(const fs::path& folder) {
  if (fs::exists(config_of(folder))) return ResumedRun{folder, config_of(folder)};
  if (const auto config = options_of_checkpoints(folder)) return ResumedRun{folder, *config};
  return std::nullopt;
}

// The run that goes on from a checkpoint: the one around it or, of a checkpoint that has been
// copied away from there, a new one in --out.
std::optional<ResumedRun> run_of_checkpoint(const fs::path& checkpoint, const Options& said) {
  const fs::path around = (checkpoint / "." / "../..").lexically_normal() / "";
  if (const auto run = run_in(around.parent_path())) return run;
  const auto config = options_of_checkpoint(checkpoint);
  if (!config) return std::nullopt;
  if (list_checkpoints(said.out).empty()) return ResumedRun{said.out, *config};
  usage_error(
      fmt::format("--resume {} and --out {}: the checkpoint lies in no run, and there is "
                  "one in --out; give a new folder",
                  *said.resume, said.out));
}

// nullopt: there is none and --resume=auto starts one.
std::optional<ResumedRun> find_run(const Options& said) {
  const std::string& path = *said.resume;
  if (path.empty() || path == "auto") {
    auto run = run_in(said.out);
    if (run || path == "auto") return run;
    throw Error(ExitCode::checkpoint,
                fmt::format("--resume: no run in {}, it has no config.toml; --resume=auto would "
                            "start one",
                            said.out));
  }
  const bool is_run = folder_kind(path) == FolderKind::run;
  std::optional<ResumedRun> run;
  if (is_run) run = run_in(path);
  if (!run && fs::is_directory(path)) run = run_of_checkpoint(path, said);
  if (run) return run;
  throw Error(
      ExitCode::checkpoint,
      fmt::format("--resume {}: no run folder with a config.toml, nor a checkpoint in one", path));
}

// A run's options. A damaged config.toml is no loss where a checkpoint has them.
Level read_saved(const ResumedRun& run) {
  try {
    Level saved = read_toml(Command::train, run.config);
    if (!saved.empty()) return saved;
    usage_error(fmt::format("{}: holds no option", run.config.string()));
  } catch (const Error& error) {
    const auto other = options_of_checkpoints(run.folder);
    if (!other || *other == run.config) throw;
    fmt::print(stderr, "lathe: passed over {}\n", error.what());
    return read_toml(Command::train, *other);
  }
}

// A model's sizes may be given by its name or one by one.
Options with_sizes(Options options) {
  const ModelConfig config = model_config(options);
  options.layers = config.layers;
  options.heads = config.heads;
  options.channels = config.channels;
  options.context = config.context;
  return options;
}

void check_fixed(const Options& saved_options, std::span<const Level> said, const fs::path& run) {
  const Options saved = with_sizes(saved_options);
  for (const Level& level : said) {
    for (const Setting& setting : level) {
      const OptionSpec& option = *setting.option;
      const bool counts = find(said, option.member) == &setting;
      if (option.on_resume != OnResume::fixed || !counts) continue;
      // Without --vocab the data decides, and only the checkpoint knows what that was.
      if (option.member == OptionMember(&Options::vocab) && saved.vocab == 0) continue;
      Options given = saved;
      apply(given, setting);
      const std::string before = value_text(saved, option);
      const std::string now = value_text(given, option);
      if (before == now) continue;
      usage_error(fmt::format("{} {}: the run in {} has {}, which --resume cannot change",
                              setting.origin, now, run.string(), before.empty() ? "none" : before));
    }
  }
}

// Makes the run's own options the lowest level, and --out its folder.
void add_resumed(std::vector<Level>& levels, const Options& said) {
  const std::optional<ResumedRun> run = find_run(said);
  if (!run) return;
  const Setting* out = find(levels, &Options::out);
  std::error_code error;
  const bool is_same = said.out == run->folder || fs::equivalent(said.out, run->folder, error);
  if (out != nullptr && !is_same) {
    usage_error(fmt::format("--resume {} and {} {}: must be the same run", *said.resume,
                            out->origin, said.out));
  }
  const std::vector<Level> base = {read_saved(*run)};
  Options saved = merge(base);
  leave_to_initial_model(saved, base);
  check_fixed(saved, levels, run->folder);
  levels.insert(levels.begin(), base.front());
  levels.push_back({{find_option("out"), {run->folder.string()}, "--resume"}});
}

// What a grid file says of its sweep; below it, where the runs lie if nothing says so.
Level sweep_settings(const fs::path& grid_file) {
  const std::string out = (fs::path("runs") / grid_file.stem()).string();
  return joined(std::vector<Level>{{{find_option("out"), {out}, "--out"}},
                                   read_toml(Command::sweep, grid_file)});
}

void check_complete(const CommandSpec& command, const Options& options,
                    std::span<const Level> levels, std::span<const std::string> paths) {
  if (!command.paths.empty() && paths.empty()) {
    usage_error(fmt::format("{}: needs a {}; see lathe {} --help", command.name, command.paths,
                            command.name));
  }
  if (command.takes_one_path && paths.size() > 1) {
    usage_error(fmt::format("{}: takes one {}, not {}; see lathe {} --help", command.name,
                            command.paths, paths.size(), command.name));
  }
  for (const std::string_view required : command.required) {
    if (required.empty() || find(levels, find_option(required)->member) != nullptr) continue;
    usage_error(fmt::format("--{}: lathe {} needs it; see lathe {} --help", required, command.name,
                            command.name));
  }
  if (options.resume && options.overwrite)
    usage_error("--resume and --overwrite: give one of them");
}

}  // namespace

Options default_options() {
  Options options;
  for (const OptionSpec& option : option_table()) {
    if (option.initial.empty()) continue;
    apply(options, {&option, {std::string(option.initial)}, fmt::format("--{}", option.name)});
  }
  return options;
}

Level joined(std::span<const Level> levels) {
  Level result;
  for (const Level& level : levels) {
    const auto is_said_again = [&](const Setting& before) {
      return std::ranges::any_of(level, [&](const Setting& now) {
        return now.option == before.option || (is_length(*now.option) && is_length(*before.option));
      });
    };
    std::erase_if(result, is_said_again);
    result.insert(result.end(), level.begin(), level.end());
  }
  return result;
}

Options merge_levels(Command command, std::vector<Level> levels,
                     const std::vector<std::string>& paths) {
  Options said = merge(levels);
  if (!said.config.empty()) {
    levels.insert(levels.begin(), read_toml(command, said.config));
    said = merge(levels);
  }
  check_complete(command_spec(command), said, levels, paths);
  if (command != Command::sweep) add_name(command, levels);
  said = merge(levels);
  if (said.resume) add_resumed(levels, said);

  Options options = with_preset(command, levels);
  if (command != Command::sweep) check_name(options, said);
  options.paths = paths;
  return options;
}

Options parse_options(Command command, std::span<const std::string> args,
                      const Environment& environment) {
  const CommandSpec& spec = command_spec(command);
  CommandLine line = read_arguments(spec, args);
  if (line.paths.empty() && !spec.default_path.empty()) {
    line.paths.emplace_back(spec.default_path);
  }
  std::vector<Level> levels = {read_environment(command, environment), std::move(line.settings)};
  const bool is_sweep = command == Command::sweep && !line.paths.empty();
  if (is_sweep) levels.insert(levels.begin(), sweep_settings(line.paths.front()));
  return merge_levels(command, std::move(levels), line.paths);
}

ModelConfig model_config(const Options& options) {
  ModelConfig config = options.model.empty() ? ModelConfig{} : model_preset(options.model).value();
  const auto replace = [](std::int64_t& size, std::int64_t given) {
    if (given != 0) size = given;
  };
  replace(config.layers, options.layers);
  replace(config.heads, options.heads);
  replace(config.channels, options.channels);
  replace(config.context, options.context);
  replace(config.vocab, options.vocab);
  return config;
}

StepRange parse_step_range(const std::string& text) {
  const std::size_t colon = std::min(text.find(':'), text.size());
  const auto first = parse_integer(text.substr(0, colon), {.least = 1});
  const auto last = parse_integer(text.substr(std::min(colon + 1, text.size())), {.least = 1});
  if (!first || !last || *last < *first) {
    usage_error(fmt::format("--profile-steps {}: must be A:B, two step numbers from 1 on", text));
  }
  return {*first, *last};
}

bool uses_gpu(const Options& options) {
  if (options.device == "auto") return options.gpus != 0 || why_no_gpu().empty();
  return options.device == "cuda";
}

std::int64_t ranks_per_node(const Options& options) {
  if (options.gpus != kWord) return options.gpus;
  if (const int count = gpu_count(); count > 0) return count;
  usage_error(fmt::format("--gpus all: {}", why_no_gpu()));
}

namespace {

// A step has whole micro-batches on every rank, and its tokens do not depend on the number of
// ranks.
void resolve_batch(Options& options, int started) {
  const std::int64_t ranks = std::max<std::int64_t>(started, rank_grid(options).ranks());
  const std::int64_t micro_tokens = options.micro_batch * options.seq_len;
  const std::int64_t least = micro_tokens * ranks;
  if (options.batch_tokens == 0) options.batch_tokens = least;
  if (options.batch_tokens % least == 0) return;
  const std::int64_t below = options.batch_tokens / least * least;
  const std::string nearest = below == 0
                                  ? fmt::format("the nearest is {}", least)
                                  : fmt::format("the nearest are {} and {}", below, below + least);
  usage_error(
      fmt::format("--batch-tokens {}: must be a multiple of {}, which is --micro-batch "
                  "{} x --seq-len {}{}; {}",
                  options.batch_tokens, least, options.micro_batch, options.seq_len,
                  ranks == 1 ? "" : fmt::format(" x {} ranks", ranks), nearest));
}

// Ranks are often bound to cores of their own, and then may use fewer than there are for each.
std::int64_t threads_of_rank(int ranks_on_this_machine) {
  const auto cores = static_cast<int>(std::thread::hardware_concurrency());
  const int share = std::max(1, cores / ranks_on_this_machine);
  return ranks_on_this_machine == 1 ? available_threads() : std::min(available_threads(), share);
}

}  // namespace

void resolve(Options& options, Ranks ranks) {
  ModelConfig model = model_config(options);
  model.vocab = std::max<std::int64_t>(model.vocab, 1);  // else the data's
  validate(model);

  constexpr std::int64_t kLongestDefault = 1024;
  if (options.seq_len == 0) options.seq_len = std::min(model.context, kLongestDefault);
  if (options.seq_len > model.context) {
    usage_error(fmt::format("--seq-len {}: must be at most the model's --context {}",
                            options.seq_len, model.context));
  }
  resolve_batch(options, ranks.all);
  if (options.precision.empty()) options.precision = uses_gpu(options) ? "bf16" : "fp32";
  if (options.threads == 0) options.threads = threads_of_rank(ranks.on_this_machine);
  if (!options.max_time.empty()) parse_duration("max-time", options.max_time);
  parse_duration("rank-timeout", options.rank_timeout);
  for (const std::string& rule : options.stop_if) parse_stop_rule(rule);
  if (!options.profile_steps.empty()) {
    parse_step_range(options.profile_steps);
    if (!uses_gpu(options) && options.trace.empty()) {
      usage_error(
          fmt::format("--profile-steps {}: is for GPUs and --trace, this run is on the "
                      "CPU and has no --trace",
                      options.profile_steps));
    }
  }
}

}  // namespace lathe
