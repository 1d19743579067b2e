// Takes the place of kernels/cuda/nccl in a build without nvcc or without nccl.h.
#include "lathe/error.h"
#include "lathe/nccl.h"
#include "ranks/tcp_rendezvous.h"

namespace lathe {

std::string why_no_nccl() {
  return "this build of Lathe has no NCCL; build it where nvcc and nccl.h are (libnccl-dev)";
}

std::string make_nccl_id() {
  throw Error(ExitCode::internal, why_no_nccl());
}

// NOLINTNEXTLINE(performance-unnecessary-value-param): the one that this stands for keeps them
std::unique_ptr<Communicator> make_nccl_communicator(RankConnections /*connections*/, int /*gpu*/,
                                                     double /*timeout*/) {
  throw Error(ExitCode::internal, why_no_nccl());
}

}  // namespace lathe
