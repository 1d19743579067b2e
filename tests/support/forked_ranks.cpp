#include "support/forked_ranks.h"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <new>
#include <stdexcept>
#include <thread>

#include "base/clock.h"
#include "lathe/exit_codes.h"

namespace lathe::test {
namespace {

RankBoard* make_boards(int count) {
  const std::size_t bytes = sizeof(RankBoard) * static_cast<std::size_t>(count);
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::runtime_error("mmap failed");
  auto* boards = static_cast<RankBoard*>(memory);
  for (int i = 0; i < count; ++i) new (boards + i) RankBoard();
  return boards;
}

[[noreturn]] void run(int rank, RankBoard& board, const ForkedRanks::Body& body) {
  int code = 0;
  try {
    code = body(rank, board);
  } catch (...) {
    const Failure failure = current_failure();
    std::snprintf(board.message, sizeof board.message, "%s", failure.message.c_str());
    code = static_cast<int>(failure.code);
  }
  board.ended_at = now();
  _exit(code);
}

}  // namespace

ForkedRanks::ForkedRanks(int size, const Body& body) : boards_(make_boards(size)) {
  for (int rank = 0; rank < size; ++rank) {
    const pid_t pid = fork();
    if (pid == 0) run(rank, board(rank), body);
    if (pid < 0) throw std::runtime_error("fork failed");
    pids_.push_back(pid);
  }
}

ForkedRanks::~ForkedRanks() {
  for (const pid_t pid : pids_) {
    if (pid < 0) continue;
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
  }
  munmap(boards_, sizeof(RankBoard) * pids_.size());
}

bool ForkedRanks::reach(int stage) const {
  const double deadline = now() + 20;
  const auto is_there = [&](const RankBoard& each) { return each.stage >= stage; };
  while (!std::all_of(boards_, boards_ + pids_.size(), is_there)) {
    if (now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

void ForkedRanks::signal(int rank, int number) const {
  kill(pids_[static_cast<std::size_t>(rank)], number);
}

int ForkedRanks::wait(int rank, double seconds) {
  pid_t& pid = pids_[static_cast<std::size_t>(rank)];
  int status = 0;
  for (const double deadline = now() + seconds; waitpid(pid, &status, WNOHANG) == 0;) {
    if (now() > deadline) return -1;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  pid = -1;
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

void sleep_seconds(double seconds) {
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
}

}  // namespace lathe::test
