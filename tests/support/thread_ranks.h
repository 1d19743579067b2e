// Ranks that are threads of the test: what passes between them is copied through queues.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <queue>
#include <utility>
#include <vector>

#include "lathe/communicator.h"
#include "ranks/transport.h"

namespace lathe::test {

// The messages between ranks that have not been taken yet.
class Mail {
 public:
  void put(int from, int to, std::span<const std::byte> bytes);
  // False where none has come. One of another size is a defect of the test's subject.
  bool take(int from, int to, std::span<std::byte> bytes);

 private:
  using Way = std::pair<int, int>;
  std::mutex mutex_;
  std::map<Way, std::queue<std::vector<std::byte>>> messages_;
};

class ThreadTransport final : public Transport {
 public:
  ThreadTransport(std::shared_ptr<Mail> mail, int rank, int size)
      : mail_(std::move(mail)), rank_(rank), size_(size) {}

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  IsDone start_send(int to, std::span<const std::byte> bytes) override;
  IsDone start_receive(int from, std::span<std::byte> bytes) override;

 private:
  std::shared_ptr<Mail> mail_;
  int rank_, size_;
};

// Calls `work` for each rank in a thread of its own. What one throws ends its rank, as in
// train_command, and comes out of here when all have ended: that of the lowest rank.
void run_ranks(int ranks, const std::function<void(Communicator&)>& work, double timeout = 60);

}  // namespace lathe::test
