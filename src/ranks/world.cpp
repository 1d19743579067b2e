#include "world.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <initializer_list>

#include "lathe/error.h"
#include "options/option_numbers.h"
#include "options/option_sources.h"

namespace lathe {
namespace {

constexpr std::int64_t kMostRanks = 1'000'000;

// One launcher's names. A job step of Slurm is told by its number: a batch script has SLURM_PROCID
// and SLURM_NTASKS as well, and what runs there without srun is a world of its own. mpirun counts
// before Slurm, as within a job each of its ranks inherits the SLURM_PROCID of what started it.
struct Launcher {
  Launch launch;
  const char* sign;  // set: this launcher started the process
  const char* rank;
  const char* size;
  const char* local_rank;
  const char* local_size;  // nullptr: it does not tell
};

constexpr Launcher kLaunchers[] = {
    {Launch::tcp, "RANK", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"},
    {Launch::mpi, "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE",
     "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"},
    {Launch::mpi, "SLURM_STEP_ID", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID",
     nullptr},
};

constexpr const char* kHost = "MASTER_ADDR";
constexpr const char* kPort = "MASTER_PORT";
constexpr const char* kRun = "TORCHELASTIC_RUN_ID";  // "none" unless torchrun was given one
// "True" where torchrun itself listens at MASTER_PORT.
constexpr const char* kPortIsTaken = "TORCHELASTIC_USE_AGENT_STORE";

class Reader {
 public:
  Reader(const Environment& environment, const char* sign)
      : environment_(environment), sign_(sign) {}

  // An empty variable is one that is not set.
  std::string text(const char* name) const {
    const auto found = environment_.find(name);
    return found == environment_.end() ? "" : found->second;
  }

  bool has(const char* name) const { return name != nullptr && !text(name).empty(); }

  std::string required(const char* name) const {
    if (!has(name)) {
      throw Error(ExitCode::usage, fmt::format("{} is {}, but {} is not set", sign_,
                                               on_one_line(text(sign_)), name));
    }
    return text(name);
  }

  int number(const char* name, const IntegerRange& range) const {
    const std::string value = required(name);
    const bool all_digits = std::ranges::all_of(value, [](char c) { return c >= '0' && c <= '9'; });
    const auto parsed = all_digits ? parse_integer(value, range) : std::nullopt;
    if (!parsed) {
      throw Error(ExitCode::usage,
                  fmt::format("{} is {}: must be {}", name, on_one_line(value), describe(range)));
    }
    return static_cast<int>(*parsed);
  }

 private:
  const Environment& environment_;
  const char* sign_;
};

void require_below(const char* name, int value, const char* bound_name, int bound) {
  if (value < bound) return;
  throw Error(ExitCode::usage, fmt::format("{} is {}, but {} is {}: the last rank is {}", name,
                                           value, bound_name, bound, bound - 1));
}

// Where rank 0 is met. Where torchrun listens at the port itself, the one beside it.
void read_address(World& world, const Reader& reader) {
  if (world.size == 1 && !reader.has(kHost)) return;
  world.host = reader.required(kHost);
  world.port = reader.number(kPort, {.least = 1, .most = 65535});
  if (reader.text(kPortIsTaken) == "True") world.port += world.port < 65535 ? 1 : -1;
  world.run = fmt::format("{} at port {}", reader.text(kRun), world.port);
}

World read(const Launcher& launcher, const Reader& reader) {
  World world{.launch = launcher.launch, .told_by = launcher.size};
  world.rank = reader.number(launcher.rank, {.most = kMostRanks});
  world.size = reader.number(launcher.size, {.least = 1, .most = kMostRanks});
  require_below(launcher.rank, world.rank, launcher.size, world.size);

  const bool tells_local_rank = world.size > 1 || reader.has(launcher.local_rank);
  if (tells_local_rank) world.local_rank = reader.number(launcher.local_rank, {.most = kMostRanks});
  require_below(launcher.local_rank, world.local_rank, launcher.size, world.size);
  world.local_size = world.size == 1 ? 1 : 0;
  if (reader.has(launcher.local_size)) {
    world.local_size = reader.number(launcher.local_size, {.least = 1, .most = world.size});
    require_below(launcher.local_rank, world.local_rank, launcher.local_size, world.local_size);
  }
  if (world.launch == Launch::tcp) read_address(world, reader);
  return world;
}

}  // namespace

Environment launcher_environment() {
  Environment result;
  const auto take = [&](const char* name) {
    const char* value = name == nullptr ? nullptr : std::getenv(name);
    if (value != nullptr) result.emplace(name, value);
  };
  for (const char* name : {kHost, kPort, kPortIsTaken, kRun}) take(name);
  for (const Launcher& launcher : kLaunchers) {
    for (const char* name :
         {launcher.sign, launcher.rank, launcher.size, launcher.local_rank, launcher.local_size}) {
      take(name);
    }
  }
  return result;
}

World read_world(const Environment& environment) {
  World world;
  for (const Launcher& launcher : kLaunchers) {
    const Reader reader(environment, launcher.sign);
    if (!reader.has(launcher.sign)) continue;
    world = read(launcher, reader);
    break;
  }
  // A script that sets WORLD_SIZE means it: processes without RANK would all be rank 0.
  const Reader script(environment, "WORLD_SIZE");
  if (script.has("WORLD_SIZE") && world.launch != Launch::tcp) {
    const int size = script.number("WORLD_SIZE", {.least = 1, .most = kMostRanks});
    if (world.launch == Launch::alone && size > 1) script.required("RANK");
    if (size != world.size) {
      throw Error(ExitCode::usage,
                  fmt::format("WORLD_SIZE is {}, but {} is {}", size, world.told_by, world.size));
    }
  }
  return world;
}

}  // namespace lathe
