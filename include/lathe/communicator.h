// Ranks: processes that train one model together, and all that they say to each other. Every rank
// makes the same calls in the same order. A wait has an end: the rank that has died or failed, or
// that was waited for in vain, is named in an Error(peer).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "lathe/exit_codes.h"
#include "lathe/ops.h"
#include "lathe/trace.h"

namespace lathe {

class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;  // from 0
  virtual int size() const = 0;
  bool is_first() const { return rank() == 0; }
  // Whether there is nobody to talk to: then nothing is said and nothing shared out.
  virtual bool is_alone() const { return size() == 1; }
  // Ranks on this rank's machine, itself among them.
  virtual int local_size() const = 0;
  // "rank 2 on node-b", for messages.
  virtual std::string name_of(int rank) const;

  // Before the first that follows: the device that computes what is in its memory.
  virtual void attach(Backend& /*backend*/) {}

  // What is in the memory of the device. `parts` are the elements of `values`, (n), that each rank
  // has for its own, one for each rank; a part may be empty. Both only begin: until wait() nobody
  // may touch the values.
  //
  // Adds up what all ranks have, fp32, in the order of ranks. Then this rank's part holds the sums,
  // and what the others hold is of no use.
  virtual void start_reduce_scatter(const Tensor& values, std::span<const ElementRange> parts) = 0;
  // Fills the other ranks' parts with what they have there.
  virtual void start_all_gather(const Tensor& values, std::span<const ElementRange> parts) = 0;
  virtual void wait() = 0;
  // For a rank that fails: what has not begun is left out, and what has is over.
  virtual void abandon() noexcept = 0;
  // (n) fp32: adds up what all ranks have, the same bits on each.
  virtual void sum(const Tensor& values) = 0;

  // What is on the host. As above; the texts of all ranks, by rank.
  virtual void sum(std::span<double> values) = 0;
  virtual std::vector<std::string> gather(const std::string& text) = 0;

  // The first rank's.
  std::string broadcast(const std::string& text) { return gather(text).front(); }
  void barrier() { gather(""); }
  bool any(bool mine);
  std::int64_t largest(std::int64_t mine);

  // Throws the Error(peer) of a rank that has failed, or of which that is known in a moment.
  virtual void require_others() = 0;

  // Shows what is sent from now on, in a row of its own; nullptr: no more.
  virtual void set_trace(Trace* trace) = 0;

  // The last call. Says to the others that this rank ends, and what failed if anything has. Whether
  // the first rank is there to tell the user.
  virtual bool leave(const std::optional<Failure>& failure) noexcept = 0;
};

// A rank without others: nothing is said and nothing is changed.
class Alone final : public Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  int local_size() const override { return 1; }
  void start_reduce_scatter(const Tensor& /*values*/,
                            std::span<const ElementRange> /*parts*/) override {}
  void start_all_gather(const Tensor& /*values*/,
                        std::span<const ElementRange> /*parts*/) override {}
  void wait() override {}
  void abandon() noexcept override {}
  void sum(const Tensor& /*values*/) override {}
  void sum(std::span<double> /*values*/) override {}
  std::vector<std::string> gather(const std::string& text) override { return {text}; }
  void require_others() override {}
  void set_trace(Trace* /*trace*/) override {}
  bool leave(const std::optional<Failure>& /*failure*/) noexcept override { return true; }
};
Communicator& alone();

// Does something that may fail on some ranks; then it fails on all of them, with the first such
// rank's Error under its number.
void do_together(Communicator& communicator, const std::function<void()>& work);

// Does something that may be asked to stop. A launcher answers a rank's death with a signal to the
// others: what stops by one then ends with the Error(peer) that names the rank.
void tell_failure_from_stop(Communicator& communicator, const std::function<void()>& work);

}  // namespace lathe
