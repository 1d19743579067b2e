#include "meet_ranks.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <iterator>
#include <optional>
#include <sstream>

namespace lathe {

// Rank 0 tells the others where it listens, and the token of this world.
RankConnections meet_ranks(Communicator& communicator) {
  std::optional<Listener> listener;
  Rendezvous rendezvous{.rank = communicator.rank(), .size = communicator.size()};
  std::string told;
  do_together(communicator, [&] {
    if (!communicator.is_first()) return;
    listener.emplace(0);
    rendezvous.token = random_token();
    told = fmt::format("{} {} {}", listener->port(), rendezvous.token,
                       fmt::join(own_addresses(), " "));
  });
  std::istringstream words(communicator.broadcast(told));
  if (listener) return gather_ranks(*listener, rendezvous, /*to_all=*/"");
  int port = 0;
  words >> port >> rendezvous.token;
  return join_rank_0({std::istream_iterator<std::string>(words), {}}, port, rendezvous);
}

}  // namespace lathe
