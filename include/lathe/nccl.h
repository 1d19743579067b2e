// Ranks on GPUs, which talk through NCCL. kernels/no_nccl takes its place in a build without nvcc
// or without nccl.h.
#pragma once

#include <memory>
#include <string>

#include "lathe/communicator.h"

namespace lathe {

struct RankConnections;  // src/ranks/tcp_rendezvous.h

// Why ranks on GPUs cannot join here, in a few words; empty: they can.
std::string why_no_nccl();

// What all ranks of a world need to find together in NCCL, from the one that makes it: the first,
// which says it to the others as RankConnections::from_rank_0. Errors: peer.
std::string make_nccl_id();

// One rank, on GPU number `gpu` (lathe/cuda.h), which is that of this thread from here on. All
// ranks make theirs at one time, each on a GPU of its own. `timeout`: seconds that another rank may
// keep this one waiting. Errors: peer; usage, of two ranks on one GPU.
std::unique_ptr<Communicator> make_nccl_communicator(RankConnections connections, int gpu,
                                                     double timeout);

}  // namespace lathe
