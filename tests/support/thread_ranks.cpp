#include "support/thread_ranks.h"

#include <algorithm>
#include <exception>
#include <stdexcept>
#include <thread>

#include "ranks/host_communicator.h"

namespace lathe::test {

void Mail::put(int from, int to, std::span<const std::byte> bytes) {
  const std::lock_guard lock(mutex_);
  messages_[{from, to}].emplace(bytes.begin(), bytes.end());
}

bool Mail::take(int from, int to, std::span<std::byte> bytes) {
  const std::lock_guard lock(mutex_);
  auto& queue = messages_[{from, to}];
  if (queue.empty()) return false;
  if (queue.front().size() != bytes.size()) throw std::logic_error("a message of another size");
  std::ranges::copy(queue.front(), bytes.begin());
  queue.pop();
  return true;
}

IsDone ThreadTransport::start_send(int to, std::span<const std::byte> bytes) {
  mail_->put(rank_, to, bytes);
  return [] { return true; };
}

IsDone ThreadTransport::start_receive(int from, std::span<std::byte> bytes) {
  return [this, from, bytes] { return mail_->take(from, rank_, bytes); };
}

void run_ranks(int ranks, const std::function<void(Communicator&)>& work, double timeout) {
  const auto mail = std::make_shared<Mail>();
  std::vector<std::exception_ptr> failures(static_cast<std::size_t>(ranks));
  {
    std::vector<std::jthread> threads;
    for (int rank = 0; rank < ranks; ++rank) {
      threads.emplace_back([&, rank] {
        std::unique_ptr<Communicator> communicator;
        try {
          communicator = std::make_unique<HostCommunicator>(
              std::make_unique<ThreadTransport>(mail, rank, ranks), timeout);
          work(*communicator);
          communicator->leave({});
        } catch (const std::exception&) {
          failures[static_cast<std::size_t>(rank)] = std::current_exception();
          if (communicator) communicator->leave(current_failure());
        }
      });
    }
  }
  for (const std::exception_ptr& failure : failures) {
    if (failure) std::rethrow_exception(failure);
  }
}

}  // namespace lathe::test
