// What the launcher says in environment variables: how many processes there are, and which of them
// this one is. A world that comes from MPI is asked of MPI too, and both have to agree: where srun
// starts processes that MPI does not know of, each takes itself for the only one.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "lathe/options.h"

namespace lathe {

enum class Launch {
  alone,  // no launcher
  mpi,    // mpirun, or srun with an MPI plugin
  tcp     // torchrun's variables: rank 0 is met at a TCP port
};

struct World {
  Launch launch = Launch::alone;
  int rank = 0, size = 1;
  int local_rank = 0;        // among the processes of this machine
  int local_size = 1;        // 0: not told
  std::string host = "";     // of rank 0; tcp only, and with one rank maybe empty
  int port = 0;              // likewise
  std::string run = "";      // likewise; no other run there has the same
  std::string told_by = "";  // the variable that has the size, for messages; "": none
};

// The variables that read_world() looks at, those that are set.
Environment launcher_environment();

// Of the first that is there: RANK (torchrun and its like), OMPI_COMM_WORLD_RANK (mpirun),
// SLURM_PROCID within a job step (srun). Throws Error(usage) naming the variable and its value.
World read_world(const Environment& environment);

}  // namespace lathe
