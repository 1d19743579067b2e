#include "lathe/join_ranks.h"

#include <fmt/format.h>

#include "gpu_ranks.h"
#include "host_communicator.h"
#include "lathe/cuda.h"
#include "lathe/error.h"
#include "ranks/world.h"

namespace lathe {
namespace {

// GPUs are asked in the name of the one that this process may get: asking the first of all would
// take memory there.
bool trains_on_gpu(const Options& options, const World& world) {
  if (const int count = gpu_count(); count > 0) use_gpu(std::min(world.local_rank, count - 1));
  return uses_gpu(options);
}

}  // namespace

std::vector<JoinRank> ranks_of_process(const Options& options) {
  const World world = read_world(launcher_environment());
  const bool is_one_of_several = world.size > 1;
  if (options.gpus != 0) return gpu_ranks(options, world);
  if (!is_one_of_several) return {[] { return std::make_unique<Alone>(); }};
  if (trains_on_gpu(options, world)) return gpu_ranks(options, world);
  const std::string said = fmt::format("{} is {}", world.told_by, world.size);
  if (world.launch == Launch::tcp) {
    throw Error(
        ExitCode::usage,
        fmt::format("{}: this process was started as one of several by torchrun or the like, "
                    "which serve GPUs; ranks on the CPU join through MPI: start them with "
                    "mpirun or srun",
                    said));
  }
  const double timeout = parse_duration("rank-timeout", options.rank_timeout);
  return {[said, world, timeout] {
    return std::make_unique<HostCommunicator>(make_mpi_transport(said, world.size), timeout);
  }};
}

}  // namespace lathe
