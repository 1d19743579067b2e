// Ranks on GPUs: which GPUs are this process's, and how its ranks find those of others.
#pragma once

#include <vector>

#include "lathe/join_ranks.h"
#include "world.h"

namespace lathe {

// Each rank has a GPU of its own: with --gpus every process has as many ranks, and its first GPUs;
// else a process is one rank and takes the GPU of its number on this machine. Errors: usage, peer.
std::vector<JoinRank> gpu_ranks(const Options& options, const World& world);

}  // namespace lathe
