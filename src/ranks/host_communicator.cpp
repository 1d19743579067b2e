#include "host_communicator.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>

#include "base/clock.h"
#include "lathe/error.h"
#include "meet_ranks.h"
#include "run/session_facts.h"
#include "waiting.h"

namespace lathe {
namespace {

constexpr std::int64_t kSumPiece = std::int64_t{1} << 18;      // elements from each rank at a time
constexpr std::size_t kLargestMessage = std::size_t{1} << 28;  // bytes

std::span<std::byte> bytes_of(const Tensor& values) {
  return {static_cast<std::byte*>(values.data()), static_cast<std::size_t>(values.bytes())};
}

// Of all parts together.
std::int64_t bytes_of(std::span<const ElementRange> parts, DType type) {
  return (parts.back().end - parts.front().begin) * size_of(type);
}

Tensor part_of(const Tensor& values, ElementRange part) {
  return values.slice(part.begin, part.end - part.begin);
}

// The elements of a part that come in its round number `round`; maybe none.
ElementRange piece_of(ElementRange part, std::int64_t round) {
  const std::int64_t begin = std::min(part.end, part.begin + round * kSumPiece);
  return {begin, std::min(part.end, begin + kSumPiece)};
}

// Shows a collective from here to the end of its scope.
class Shown {
 public:
  Shown(Trace* trace, const char* name, std::int64_t bytes)
      : trace_(trace), event_{name, "communication", {"bytes", bytes}, SteadyClock::now(), {}} {}
  Shown(const Shown&) = delete;
  Shown& operator=(const Shown&) = delete;
  ~Shown() {
    if (trace_ == nullptr) return;
    event_.end = SteadyClock::now();
    trace_->record(event_, "communication");
  }

 private:
  using SteadyClock = std::chrono::steady_clock;
  Trace* trace_;
  TraceEvent event_;
};

}  // namespace

HostCommunicator::HostCommunicator(std::unique_ptr<Transport> transport, double timeout)
    : transport_(std::move(transport)), timeout_(timeout) {
  const std::string host = host_name();
  hosts_ = gather(host);
  local_size_ = static_cast<int>(std::ranges::count(hosts_, host));
  const MeetingPlace place = agree_on_place(*this);
  watch_.emplace(meet_at(place, {.rank = rank(), .size = size(), .token = place.token}, ""),
                 most_silence(timeout));
}

template <class Visit>
void HostCommunicator::for_each_other(const Visit& visit) const {
  for (int other = 0; other < size(); ++other) {
    if (other != rank()) visit(other);
  }
}

std::string HostCommunicator::name_of(int rank) const {
  const auto index = static_cast<std::size_t>(rank);
  if (index >= hosts_.size() || hosts_[index].empty()) return Communicator::name_of(rank);
  return fmt::format("rank {} on {}", rank, hosts_[index]);
}

void HostCommunicator::exchange(std::span<const Outgoing> out, std::span<const Incoming> in) {
  std::vector<Waiting> waiting;
  const auto start = [&](const auto& message, const auto& begin) {
    for (std::size_t at = 0; at < message.bytes.size(); at += kLargestMessage) {
      const std::size_t count = std::min(kLargestMessage, message.bytes.size() - at);
      begin(message.bytes.subspan(at, count));
    }
  };
  for (const Incoming& message : in) {
    start(message, [&](std::span<std::byte> bytes) {
      waiting.push_back({message.rank, true, transport_->start_receive(message.rank, bytes)});
    });
  }
  for (const Outgoing& message : out) {
    start(message, [&](std::span<const std::byte> bytes) {
      waiting.push_back({message.rank, false, transport_->start_send(message.rank, bytes)});
    });
  }
  is_broken_ = true;  // unless this ends well
  const auto are_done = [&] {
    std::erase_if(waiting, [](const Waiting& message) { return message.is_done(); });
    return waiting.empty();
  };
  const double begin = now();
  for (Patience patience; !are_done(); patience.wait()) {
    if (watch_) require_alive(*watch_, begin);
    if (now() > begin + timeout_) refuse_late(waiting);
  }
  is_broken_ = false;
}

// A rank that has not taken what was sent to it, while its own message is there, may well wait
// itself: it is named only where none is missing.
void HostCommunicator::refuse_late(std::span<const Waiting> waiting) {
  const bool any_missing = std::ranges::any_of(waiting, &Waiting::is_receive);
  std::vector<std::string> names;
  for (const Waiting& message : waiting) {
    if (any_missing && !message.is_receive) continue;
    if (names.empty() || names.back() != name_of(message.rank)) {
      names.push_back(name_of(message.rank));
    }
    if (message.rank == 0) is_first_late_ = true;
  }
  throw Error(ExitCode::peer, fmt::format("{}: nothing heard for {:g} s (--rank-timeout)",
                                          fmt::join(names, ", "), timeout_));
}

void HostCommunicator::require_others() {
  lathe::require_others(*watch_);
}

bool HostCommunicator::leave(const std::optional<Failure>& failure) noexcept {
  jobs_.stop();
  const std::optional<PeerFailure> other = say_end(*watch_, failure);
  if (!failure && !other && !is_broken_) transport_->close(timeout_);
  return !is_first_gone(other) && !is_first_late_;
}

void HostCommunicator::start_reduce_scatter(const Tensor& values,
                                            std::span<const ElementRange> parts) {
  jobs_.start([this, values, parts = std::vector(parts.begin(), parts.end())] {
    reduce_scatter(values, parts);
  });
}

void HostCommunicator::start_all_gather(const Tensor& values, std::span<const ElementRange> parts) {
  jobs_.start([this, values, parts = std::vector(parts.begin(), parts.end())] {
    all_gather(values, parts);
  });
}

// In pieces, so that what comes from the others takes little memory.
void HostCommunicator::reduce_scatter(const Tensor& values, std::span<const ElementRange> parts) {
  std::int64_t largest = 0;
  for (const ElementRange& part : parts) largest = std::max(largest, part.end - part.begin);
  const ElementRange own = parts[static_cast<std::size_t>(rank())];
  const Shown shown(trace_, "reduce_scatter", bytes_of(parts, values.type()));
  const auto piece_bytes = static_cast<std::size_t>(kSumPiece * size_of(DType::fp32));
  parts_.resize(piece_bytes * static_cast<std::size_t>(size()));
  const auto from = [&](int other) {
    return std::span(parts_).subspan(static_cast<std::size_t>(other) * piece_bytes, piece_bytes);
  };
  for (std::int64_t round = 0; round * kSumPiece < largest; ++round) {
    const Tensor mine = part_of(values, piece_of(own, round));
    std::vector<Outgoing> out;
    std::vector<Incoming> in;
    for_each_other([&](int other) {
      const ElementRange theirs = piece_of(parts[static_cast<std::size_t>(other)], round);
      out.push_back({other, bytes_of(part_of(values, theirs))});
      in.push_back({other, from(other).first(static_cast<std::size_t>(mine.bytes()))});
    });
    exchange(out, in);
    const std::span<std::byte> own_copy =
        from(rank()).first(static_cast<std::size_t>(mine.bytes()));
    std::ranges::copy(bytes_of(mine), own_copy.begin());
    auto* const sums = mine.as<float>();
    for (int other = 0; other < size(); ++other) {
      const auto* const added = reinterpret_cast<const float*>(from(other).data());
      for (std::int64_t i = 0; i < mine.count(); ++i) {
        sums[i] = other == 0 ? added[i] : sums[i] + added[i];
      }
    }
  }
}

void HostCommunicator::all_gather(const Tensor& values, std::span<const ElementRange> parts) {
  const Shown shown(trace_, "all_gather", bytes_of(parts, values.type()));
  const Tensor mine = part_of(values, parts[static_cast<std::size_t>(rank())]);
  std::vector<Outgoing> out;
  std::vector<Incoming> in;
  for_each_other([&](int other) {
    out.push_back({other, bytes_of(mine)});
    in.push_back({other, bytes_of(part_of(values, parts[static_cast<std::size_t>(other)]))});
  });
  exchange(out, in);
}

void HostCommunicator::sum(const Tensor& values) {
  const std::span<float> floats(values.as<float>(), static_cast<std::size_t>(values.count()));
  std::vector<double> sums(floats.begin(), floats.end());
  sum(sums);
  std::ranges::transform(sums, floats.begin(), [](double x) { return static_cast<float>(x); });
}

void HostCommunicator::sum(std::span<double> values) {
  jobs_.wait();
  const Shown shown(trace_, "sum", static_cast<std::int64_t>(values.size_bytes()));
  const std::vector<double> mine(values.begin(), values.end());
  std::vector<std::vector<double>> all(static_cast<std::size_t>(size()), mine);
  std::vector<Outgoing> out;
  std::vector<Incoming> in;
  for_each_other([&](int other) {
    out.push_back({other, std::as_bytes(std::span(mine))});
    in.push_back({other, std::as_writable_bytes(std::span(all[static_cast<std::size_t>(other)]))});
  });
  exchange(out, in);
  std::ranges::fill(values, 0);
  for (const std::vector<double>& of_rank : all) {
    std::ranges::transform(values, of_rank, values.begin(), std::plus{});
  }
}

std::vector<std::string> HostCommunicator::gather(const std::string& text) {
  jobs_.wait();
  const auto count = static_cast<std::size_t>(size());
  const std::uint64_t bytes = text.size();
  std::vector<std::uint64_t> sizes(count);
  std::vector<std::string> texts(count);
  texts[static_cast<std::size_t>(rank())] = text;
  std::vector<Outgoing> out;
  std::vector<Incoming> in;
  for_each_other([&](int other) {
    out.push_back({other, std::as_bytes(std::span(&bytes, 1))});
    in.push_back(
        {other, std::as_writable_bytes(std::span(&sizes[static_cast<std::size_t>(other)], 1))});
  });
  exchange(out, in);
  out.clear();
  in.clear();
  for_each_other([&](int other) {
    std::string& theirs = texts[static_cast<std::size_t>(other)];
    theirs.resize(sizes[static_cast<std::size_t>(other)]);
    out.push_back({other, std::as_bytes(std::span(text))});
    in.push_back({other, std::as_writable_bytes(std::span(theirs))});
  });
  exchange(out, in);
  return texts;
}

}  // namespace lathe
