// The connections of ranks that can already send each other messages.
#pragma once

#include "lathe/communicator.h"
#include "tcp_rendezvous.h"

namespace lathe {

// Called by all together. Errors: peer.
RankConnections meet_ranks(Communicator& communicator);

}  // namespace lathe
