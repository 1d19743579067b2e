#include "nccl_communicator.h"

#include <algorithm>

namespace lathe::ptx {
namespace {

// After something that streams wait for: they go on, each step a call of its own, so that other
// threads have their turns.
void go_on() {
  for (bool moved = true; moved;) {
    const Call call;
    moved = advance();
  }
}

bool is_there(const Stream* stream) {
  const auto& streams = runtime().streams;
  return std::any_of(streams.begin(), streams.end(),
                     [&](const auto& each) { return each.get() == stream && !each->is_destroyed; });
}

}  // namespace

NcclCommunicator::NcclCommunicator(std::string name, int rank, int ranks, bool blocks)
    : name_(std::move(name)),
      rank_(rank),
      ranks_(ranks),
      device_(machine().device),
      number_(runtime().visible.at(static_cast<std::size_t>(device_))),
      blocks_(blocks),
      was_told_(blocks),
      thread_([this] { run(); }) {}

ncclResult_t NcclCommunicator::state() const {
  if (result_ != ncclSuccess) return result_;
  const bool is_in_progress =
      !is_joined_ || !given_.empty() || !was_told_ || (is_finalized_ && !is_quiet());
  return is_in_progress ? ncclInProgress : ncclSuccess;
}

ncclResult_t NcclCommunicator::ask() {
  if (!was_told_) {
    was_told_ = true;
    return result_ == ncclSuccess ? ncclInProgress : result_;
  }
  enqueue();
  return state();
}

void NcclCommunicator::give(std::vector<std::shared_ptr<Collective>> collectives) {
  given_ = std::move(collectives);
  was_told_ = blocks_;
  if (blocks_ || machine().options.order == Order::reverse) enqueue();
}

void NcclCommunicator::enqueue() {
  for (const auto& collective : std::exchange(given_, {})) {
    if (!is_there(collective->stream)) {
      fail(ncclInvalidArgument, "the stream of a collective was destroyed before it was there");
      return;
    }
    enqueued_.push_back(collective);
    heed_null_stream(*collective->stream);
    collective->turn = take_turn(*collective->stream);
    const auto start = [collective] {
      collective->has_started = true;
      runtime().changed.notify_all();
    };
    collective->stream->steps.push_back({start, [collective] { return collective->is_done; }});
  }
  while (advance()) {
  }
}

void NcclCommunicator::run() {
  this_thread().device = device_;
  join_others();
  while (!ends_) {
    std::shared_ptr<Collective> next;
    {
      Call call;
      call.wait([&] { return ends_ || (!enqueued_.empty() && enqueued_.front()->has_started); });
      if (!ends_) next = enqueued_.front();
    }
    if (next) do_next(next);
  }
  give_up();
}

void NcclCommunicator::join_others() {
  std::string problem;
  ncclResult_t result = ncclSystemError;
  try {
    exchange_ = std::make_unique<NcclExchange>(name_, rank_, ranks_, number_);
    const bool met = exchange_->meet(ends_);
    if (!met || rank_ == 0) exchange_->remove_name();
    result = ncclInvalidUsage;
    if (met) exchange_->check_devices();
  } catch (const Error& error) {
    problem = error.what();
  }
  const Call call;
  is_joined_ = true;
  if (!problem.empty()) fail(result, problem);
  runtime().changed.notify_all();
}

// One that races is still done: the other ranks wait for it.
void NcclCommunicator::do_next(const std::shared_ptr<Collective>& next) {
  std::string problem, race;
  bool is_performed = false;
  {
    const Call call;
    race = begin(*next, rank_, ranks_);
  }
  try {
    is_performed = perform(*next, *exchange_, ends_);
  } catch (const Error& error) {
    problem = error.what();
  }
  if (!is_performed) spoil(*next, rank_, ranks_);
  {
    const Call call;
    enqueued_.pop_front();
    next->is_done = true;
    if (!problem.empty()) fail(ncclInvalidUsage, problem);
    if (!race.empty()) fail(ncclUnhandledCudaError, race);
  }
  go_on();
}

void NcclCommunicator::give_up() {
  {
    const Call call;
    given_.clear();
    for (const auto& collective : std::exchange(enqueued_, {})) {
      spoil(*collective, rank_, ranks_);
      collective->is_done = true;
    }
  }
  go_on();
}

void NcclCommunicator::fail(ncclResult_t result, const std::string& problem) {
  result_ = result;
  problem_ = problem;
}

void NcclCommunicator::end() {
  {
    const Call call;
    ends_ = true;
    runtime().changed.notify_all();
  }
  thread_.join();
}

}  // namespace lathe::ptx
