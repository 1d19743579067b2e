// How a process that a launcher has started as one of several becomes a rank.
#pragma once

#include <memory>

#include "lathe/communicator.h"
#include "lathe/options.h"

namespace lathe {

// The ranks that a launcher (mpirun, srun) has started this process with, as its variables say;
// Alone where none has, or only one. Error(usage) where this process was started as one of several
// and cannot join them: it must not train for itself alone.
std::unique_ptr<Communicator> join_ranks(const Options& options);

}  // namespace lathe
