#include "meet_ranks.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <iterator>
#include <sstream>

namespace lathe {

// Rank 0 tells the others where it listens, and the token of this world.
MeetingPlace agree_on_place(Communicator& communicator) {
  MeetingPlace place{};
  std::string told;
  do_together(communicator, [&] {
    if (!communicator.is_first()) return;
    place.listener.emplace(0);
    told = fmt::format("{} {} {}", place.listener->port(), random_token(),
                       fmt::join(own_addresses(), " "));
  });
  std::istringstream words(communicator.broadcast(told));
  words >> place.port >> place.token;
  place.hosts = {std::istream_iterator<std::string>(words), {}};
  return place;
}

MeetingPlace place_in_process() {
  MeetingPlace place{.listener = std::optional<Listener>(0),
                     .hosts = {"127.0.0.1"},
                     .port = 0,
                     .token = random_token()};
  place.port = place.listener->port();
  return place;
}

RankConnections meet_at(const MeetingPlace& place, const Rendezvous& rendezvous,
                        const std::string& to_all) {
  if (rendezvous.rank == 0) return gather_ranks(*place.listener, rendezvous, to_all);
  return join_rank_0(place.hosts, place.port, rendezvous);
}

}  // namespace lathe
