#include "gpu_ranks.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <utility>

#include "host_communicator.h"
#include "lathe/cuda.h"
#include "lathe/error.h"
#include "lathe/nccl.h"
#include "meet_ranks.h"

namespace lathe {
namespace {

// What this process brings, and where its ranks meet the others.
struct OwnRanks {
  std::vector<int> gpus;
  MeetingPlace place;
};

[[noreturn]] void usage_error(const std::string& message) {
  throw Error(ExitCode::usage, message);
}

// "--gpus 4", "WORLD_SIZE is 4": what asks for ranks on GPUs.
std::string asked_by(const Options& options, const World& world) {
  if (options.gpus == kWord) return "--gpus all";
  if (options.gpus != 0) return fmt::format("--gpus {}", options.gpus);
  return fmt::format("{} is {}", world.told_by, world.size);
}

// The first ones, where this is the only process on its machine.
std::vector<int> gpus_by_option(const Options& options, const World& world) {
  const std::string asked = asked_by(options, world);
  if (options.device == "cpu") {
    usage_error(
        fmt::format("{}: --device is cpu; ranks on the CPU are started by mpirun or srun", asked));
  }
  if (world.local_size > 1 || world.local_rank > 0) {
    usage_error(
        fmt::format("{}: {} is {}, and each process on this machine is a rank with a GPU "
                    "of its own; leave out --gpus, or start one process on each machine",
                    asked, world.told_by, world.size));
  }
  const int seen = gpu_count();
  if (seen == 0) usage_error(fmt::format("{}: {}", asked, why_no_gpu()));
  const std::int64_t wanted = ranks_per_node(options);
  if (wanted > seen) {
    usage_error(fmt::format("{}: this process sees {} {}; must be at most that, or all", asked,
                            seen, seen == 1 ? "GPU" : "GPUs"));
  }
  std::vector<int> gpus(static_cast<std::size_t>(wanted));
  std::iota(gpus.begin(), gpus.end(), 0);
  return gpus;
}

// The one of this process's number on its machine, unless it was given one alone, as by Slurm.
int gpu_by_launcher(const World& world) {
  const int seen = gpu_count(), processes = std::max(world.local_size, world.local_rank + 1);
  if (seen == 1 && std::getenv("CUDA_VISIBLE_DEVICES") != nullptr) return 0;
  if (processes <= seen) return world.local_rank;
  if (seen == 0) usage_error(fmt::format("{} is {}: {}", world.told_by, world.size, why_no_gpu()));
  usage_error(
      fmt::format("{} is {}: {} processes on this machine, and {} {}: each is a rank that "
                  "needs one of its own; start at most as many, or give --device cpu",
                  world.told_by, world.size, processes, seen, seen == 1 ? "GPU" : "GPUs"));
}

std::vector<int> own_gpus(const Options& options, const World& world) {
  const std::string asked = asked_by(options, world);
  const std::vector<int> gpus =
      options.gpus != 0 ? gpus_by_option(options, world) : std::vector{gpu_by_launcher(world)};
  for (const int gpu : gpus) {
    use_gpu(gpu);
    const std::string problem = why_no_gpu();
    if (!problem.empty()) usage_error(fmt::format("{}: GPU {}: {}", asked, gpu, problem));
  }
  const std::string problem = why_no_nccl();
  if (!problem.empty()) usage_error(fmt::format("{}: {}", asked, problem));
  return gpus;
}

// MPI has started the processes and has no more to do once they know where to meet. What it is that
// keeps them from it the first one says.
OwnRanks meet_through_mpi(const Options& options, const World& world, double timeout) {
  HostCommunicator processes(
      make_mpi_transport(fmt::format("{} is {}", world.told_by, world.size), world.size), timeout);
  OwnRanks own{};
  try {
    do_together(processes, [&] { own.gpus = own_gpus(options, world); });
    own.place = agree_on_place(processes);
  } catch (const std::exception&) {
    const Failure failure = current_failure();
    const bool is_told = processes.leave(failure);
    if (is_told && !processes.is_first()) std::_Exit(static_cast<int>(failure.code));
    throw;
  }
  processes.leave({});
  return own;
}

MeetingPlace place_of(const World& world) {
  if (world.host.empty()) return place_in_process();
  MeetingPlace place{.listener = std::nullopt,
                     .hosts = {world.host},
                     .port = world.port,
                     .token = token_of(world.run)};
  if (world.rank == 0) place.listener.emplace(world.port);
  return place;
}

}  // namespace

std::vector<JoinRank> gpu_ranks(const Options& options, const World& world) {
  const double timeout = parse_duration("rank-timeout", options.rank_timeout);
  const bool is_by_mpi = world.launch == Launch::mpi && world.size > 1;
  OwnRanks own = is_by_mpi ? meet_through_mpi(options, world, timeout)
                           : OwnRanks{own_gpus(options, world), place_of(world)};
  const auto place = std::make_shared<const MeetingPlace>(std::move(own.place));
  const auto ranks_here = static_cast<int>(own.gpus.size());
  std::vector<JoinRank> ranks;
  for (const int gpu : own.gpus) {
    const Rendezvous rendezvous{
        .rank = world.rank * ranks_here + static_cast<int>(ranks.size()),
        .size = world.size * ranks_here,
        .token = place->token,
        .timeout_seconds = timeout,
    };
    ranks.emplace_back([place, rendezvous, gpu, timeout] {
      const std::string id = rendezvous.rank == 0 ? make_nccl_id() : "";
      return make_nccl_communicator(meet_at(*place, rendezvous, id), gpu, timeout);
    });
  }
  return ranks;
}

}  // namespace lathe
