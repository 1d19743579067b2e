#include "lathe/join_ranks.h"

#include <fmt/format.h>

#include "host_communicator.h"
#include "lathe/error.h"
#include "ranks/world.h"

namespace lathe {

std::unique_ptr<Communicator> join_ranks(const Options& options) {
  const World world = read_world(launcher_environment());
  if (world.size == 1) return std::make_unique<Alone>();
  const std::string said = fmt::format("{} is {}", world.told_by, world.size);
  if (world.launch == Launch::tcp) {
    throw Error(
        ExitCode::usage,
        fmt::format("{}: this process was started as one of several by torchrun or the like, "
                    "which serve GPUs; ranks on the CPU join through MPI: start them with "
                    "mpirun or srun",
                    said));
  }
  if (uses_gpu(options)) {
    throw Error(ExitCode::usage, fmt::format("{}: several ranks train on the CPU only so far; give "
                                             "--device cpu, or start one process",
                                             said));
  }
  return std::make_unique<HostCommunicator>(make_mpi_transport(said, world.size),
                                            parse_duration("rank-timeout", options.rank_timeout));
}

}  // namespace lathe
