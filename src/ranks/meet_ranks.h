// Where ranks meet for the first time: at a TCP port of the first one's process.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "lathe/communicator.h"
#include "tcp_rendezvous.h"

namespace lathe {

struct MeetingPlace {
  std::optional<Listener> listener;  // of the first rank's process
  std::vector<std::string> hosts;    // names of one machine
  int port;
  std::uint64_t token;  // Rendezvous::token
};

// Any port of this process, for ranks that can already send each other messages: called by all
// together. Errors: peer.
MeetingPlace agree_on_place(Communicator& communicator);

// For ranks that are threads of this process.
MeetingPlace place_in_process();

// With the token of the place. `to_all` is what rank 0 tells the others. Errors: peer, usage.
RankConnections meet_at(const MeetingPlace& place, const Rendezvous& rendezvous,
                        const std::string& to_all);

}  // namespace lathe
