// How processes that know only where rank 0 listens find together over TCP: one connection from
// rank 0 to every other. It stays, for PeerWatch. Under torchrun's variables it also brings what
// rank 0 has to tell all, the id of NCCL's world.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "sockets.h"

namespace lathe {

struct Rendezvous {
  int rank = 0, size = 1;
  // The same at all ranks of a world and at no other: what else connects is ignored. It keeps
  // mistakes out, not people who can listen to the network.
  std::uint64_t token = 0;
  double timeout_seconds = 60;
};

struct Peer {
  Connection connection;
  std::string host;  // the machine's name
};

struct RankConnections {
  int rank = 0;
  std::vector<Peer> peers = {};  // by rank. Rank 0 has all others open, the others rank 0
  std::string from_rank_0 = "";  // what it had to tell
};

// A token that no other world has.
std::uint64_t random_token();
// The same for the same text, such as the number of a job.
std::uint64_t token_of(const std::string& text);

// For rank 0: waits until all others are there, and tells them `to_all`, at most kMostText bytes.
// Throws Error(peer) that names the ranks which have not come, and tells it those that have.
RankConnections gather_ranks(const Listener& listener, const Rendezvous& rendezvous,
                             const std::string& to_all);

// For the others: tries each of rank 0's `hosts` until one answers, then waits for the rest. Throws
// Error(peer), or Error(usage) when rank 0 refuses this one.
RankConnections join_rank_0(const std::vector<std::string>& hosts, int port,
                            const Rendezvous& rendezvous);

}  // namespace lathe
