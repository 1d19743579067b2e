// How a process becomes a rank of a run, or several: as variables of a launcher (mpirun, srun,
// torchrun) and --gpus say.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "lathe/communicator.h"
#include "lathe/options.h"

namespace lathe {

// Makes one rank, in the thread that is this rank from then on. All of a process join at one time.
using JoinRank = std::function<std::unique_ptr<Communicator>()>;

// One for each rank of this process: Alone where neither a launcher nor --gpus asks for more.
// Error(usage) where this process was started as one of several and cannot join them: it must not
// train for itself alone.
std::vector<JoinRank> ranks_of_process(const Options& options);

// What a rank does; the exit code.
using RankWork = std::function<int(Communicator&)>;

// Each rank in a thread of its own, which says what has kept it from joining; the exit code of the
// process. When it is not 0 the process has to end at once: where a rank has failed, threads of
// others that do not end within seconds are left behind.
int run_in_threads(std::vector<JoinRank> ranks, const RankWork& work);

}  // namespace lathe
