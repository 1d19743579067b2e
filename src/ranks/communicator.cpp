// What every kind of communicator has, in terms of gather().
#include "lathe/communicator.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <string_view>

#include "lathe/error.h"
#include "lathe/stop_signal.h"

namespace lathe {
namespace {

std::int64_t number_in(std::string_view text) {
  std::int64_t number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

}  // namespace

Communicator& alone() {
  static Alone alone;
  return alone;
}

std::string Communicator::name_of(int rank) const {
  return fmt::format("rank {}", rank);
}

bool Communicator::any(bool mine) {
  if (is_alone()) return mine;
  double count = mine ? 1 : 0;
  sum(std::span(&count, 1));
  return count > 0;
}

std::int64_t Communicator::largest(std::int64_t mine) {
  if (is_alone()) return mine;
  std::vector<double> of_ranks(static_cast<std::size_t>(size()));  // exact below 2^53
  of_ranks[static_cast<std::size_t>(rank())] = static_cast<double>(mine);
  sum(of_ranks);
  return static_cast<std::int64_t>(*std::ranges::max_element(of_ranks));
}

// A failure goes around as "CODE MESSAGE". That of another rank, or one that ends it at once, says
// what it is by itself.
void do_together(Communicator& communicator, const std::function<void()>& work) {
  if (communicator.is_alone()) return work();
  std::string failure;
  try {
    work();
  } catch (const Error& error) {
    if (error.code() == ExitCode::peer) throw;
    failure = fmt::format("{} {}", static_cast<int>(error.code()), error.what());
  }
  const std::vector<std::string> failures = communicator.gather(failure);
  for (std::size_t rank = 0; rank < failures.size(); ++rank) {
    const std::string& first = failures[rank];
    if (first.empty()) continue;
    const std::string message = first.substr(first.find(' ') + 1);
    const auto exit_code = static_cast<int>(number_in(first));
    if (is_stop_code(exit_code)) take_over_stop(exit_code);
    throw Error(static_cast<ExitCode>(exit_code),
                rank == 0 ? message : fmt::format("rank {}: {}", rank, message));
  }
}

void tell_failure_from_stop(Communicator& communicator, const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    if (is_stop(error)) communicator.require_others();
    throw;
  }
}

}  // namespace lathe
