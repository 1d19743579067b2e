#include <fmt/format.h>
#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "lathe/exit_codes.h"
#include "lathe/join_ranks.h"
#include "lathe/stop_signal.h"

namespace lathe {
namespace {

// How a rank has ended.
struct RankEnd {
  int exit_code = 0;
  std::string unsaid = "";  // what the user has yet to be told
};

// What the threads and the one that waits for them share.
struct EndBoard {
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<std::optional<RankEnd>> ends;  // by rank

  bool are_all_there() const {
    return std::ranges::all_of(ends, [](const auto& end) { return end.has_value(); });
  }
  bool has_failure() const {
    return std::ranges::any_of(ends, [](const auto& end) {
      return end && end->exit_code != 0 && !is_stop_code(end->exit_code);
    });
  }
};

RankEnd run_rank(JoinRank join, const RankWork& work) {
  std::unique_ptr<Communicator> communicator;
  try {
    communicator = join();
    join = nullptr;  // and with it the place where the ranks have met
  } catch (const std::exception&) {
    const Failure failure = current_failure();
    return {static_cast<int>(failure.code), failure.message};
  }
  return {.exit_code = work(*communicator)};
}

// The failure that others are a consequence of counts most; then that the run was to stop.
int weight(const std::optional<RankEnd>& end) {
  if (!end || end->exit_code == 0) return 0;
  if (is_stop_code(end->exit_code)) return 1;
  return end->exit_code == static_cast<int>(ExitCode::peer) ? 2 : 3;
}

}  // namespace

int run_in_threads(std::vector<JoinRank> ranks, const RankWork& work) {
  constexpr std::chrono::seconds kOthersEnd{5};
  const auto board = std::make_shared<EndBoard>();
  board->ends.resize(ranks.size());
  std::vector<std::thread> threads;
  for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
    threads.emplace_back([board, rank, join = std::move(ranks[rank]), work]() mutable {
      pthread_setname_np(pthread_self(), fmt::format("rank {}", rank).c_str());
      RankEnd end = run_rank(std::move(join), work);
      const std::lock_guard lock(board->mutex);
      board->ends[rank] = std::move(end);
      board->changed.notify_all();
    });
  }
  std::unique_lock lock(board->mutex);
  board->changed.wait(lock, [&] { return board->are_all_there() || board->has_failure(); });
  const bool have_ended =
      board->changed.wait_for(lock, kOthersEnd, [&] { return board->are_all_there(); });
  const RankEnd end = **std::ranges::max_element(board->ends, {}, weight);
  lock.unlock();
  for (std::thread& thread : threads) have_ended ? thread.join() : thread.detach();
  if (!end.unsaid.empty()) fmt::print(stderr, "lathe: {}\n", end.unsaid);
  return end.exit_code;
}

}  // namespace lathe
