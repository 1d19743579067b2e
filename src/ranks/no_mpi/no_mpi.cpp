// Takes the place of ../mpi in a build without MPI.
#include <fmt/format.h>

#include "lathe/error.h"
#include "ranks/transport.h"

namespace lathe {

std::unique_ptr<Transport> make_mpi_transport(const std::string& launcher, int /*size*/) {
  throw Error(ExitCode::usage,
              fmt::format("{}: this process was started as one of several, and this build of Lathe "
                          "has no MPI to join them; build it where mpi.h is (libopenmpi-dev), or "
                          "start one process",
                          launcher));
}

}  // namespace lathe
