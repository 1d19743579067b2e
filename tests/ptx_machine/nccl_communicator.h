// What a ncclComm_t of the stand-in points to: a rank with a thread that does its collectives, one
// after the other, each when its stream has come to it.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "nccl_collective.h"
#include "runtime_state.h"

namespace lathe::ptx {

// All but `end` is called within a Call.
class NcclCommunicator {
 public:
  NcclCommunicator(std::string name, int rank, int ranks, bool blocks);

  ncclResult_t state() const;
  const std::string& problem() const { return problem_; }
  bool blocks() const { return blocks_; }
  int rank() const { return rank_; }
  int ranks() const { return ranks_; }
  int device() const { return device_; }

  // For what is asked next: without `blocks` collectives are on their streams only when the program
  // has seen that they are, and until then it is told once that they are in progress. That is as
  // late as it may be; in reverse order they are there at once, which is as early.
  ncclResult_t ask();

  // In the order given. Throws Error when a stream is gone.
  void give(std::vector<std::shared_ptr<Collective>> collectives);

  // Whether nothing of it is on its way.
  bool is_quiet() const { return enqueued_.empty() && given_.empty(); }
  void finalize() { is_finalized_ = true; }
  bool is_finalized() const { return is_finalized_; }
  bool is_joined() const { return is_joined_; }

  // Puts on their streams what is not yet there.
  void enqueue();

  // Ends the thread; what is on its way is not done any more. Not within a Call.
  void end();

 private:
  void run();
  void join_others();
  void do_next(const std::shared_ptr<Collective>& next);
  void give_up();
  void fail(ncclResult_t result, const std::string& problem);

  std::string name_, problem_;
  int rank_, ranks_, device_;
  int number_;  // of the device on the machine
  bool blocks_, is_joined_ = false, is_finalized_ = false;
  ncclResult_t result_ = ncclSuccess;
  bool was_told_;                                     // that the last of it is in progress
  std::vector<std::shared_ptr<Collective>> given_;    // not yet on their streams
  std::deque<std::shared_ptr<Collective>> enqueued_;  // not yet done
  std::unique_ptr<NcclExchange> exchange_;            // of the thread alone
  std::atomic<bool> ends_ = false;
  std::thread thread_;
};

}  // namespace lathe::ptx
