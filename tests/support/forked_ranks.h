// The ranks of a world as processes of their own, forked from the test, which can be killed,
// stopped and told what to do.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <functional>
#include <string>
#include <vector>

namespace lathe::test {

// Shared by the test and one rank.
struct RankBoard {
  std::atomic<int> stage = 0;  // how far the rank is
  std::atomic<int> order = 0;  // what the test wants of it
  std::atomic<double> ended_at = 0;
  char message[1024] = {};  // of the Error that ended it
};

class ForkedRanks {
 public:
  // What a rank does; it ends with the exit code returned, or with that of an Error.
  using Body = std::function<int(int rank, RankBoard& board)>;

  ForkedRanks(int size, const Body& body);
  ForkedRanks(const ForkedRanks&) = delete;
  ForkedRanks& operator=(const ForkedRanks&) = delete;
  ~ForkedRanks();  // kills those that are left

  int size() const { return static_cast<int>(pids_.size()); }
  RankBoard& board(int rank) const { return boards_[rank]; }
  // Whether all ranks get that far in 20 seconds.
  bool reach(int stage) const;
  void signal(int rank, int number) const;
  // The exit code, or 128 + N after signal N; -1 when it runs still after `seconds`.
  int wait(int rank, double seconds = 20);
  std::string message(int rank) const { return board(rank).message; }

 private:
  RankBoard* boards_;
  std::vector<pid_t> pids_;  // -1: waited for
};

void sleep_seconds(double seconds);

}  // namespace lathe::test
