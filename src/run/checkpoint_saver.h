// Saves a run's checkpoints, in the background where it may, and does not give up at once: a save
// that fails is tried again, with the state of then, while training goes on.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "lathe/backend.h"
#include "lathe/checkpoint.h"
#include "lathe/trace.h"
#include "retention.h"
#include "save_thread.h"

namespace lathe {

struct SaverSpec {
  std::filesystem::path run_folder;
  std::vector<std::filesystem::path> logs;  // their lines up to a checkpoint are as durable as it
  std::int64_t keep, keep_every;            // Retention
  bool keep_best;
  bool background;
  std::int64_t retries;      // of a failed save, before the run ends
  double retry_seconds;      // before the first of them; each further wait is twice as long
  double stop_seconds = 10;  // that a stop signal leaves for all tries of the last save
  std::int64_t saved_step;   // has a checkpoint already; -1: none
  Trace* trace = nullptr;
  std::function<void()> before_save = [] {};  // throws where the state must not be saved
};

// Every call comes from the thread that trains. Several ranks call together, and save while they
// wait.
class CheckpointSaver {
 public:
  // `collect` gives the state of now; its tensors must be the same memory every time. `say` tells
  // the user.
  CheckpointSaver(Backend& backend, const SaverSpec& spec, std::function<CheckpointData()> collect,
                  std::function<void(const std::string&)> say,
                  Communicator& communicator = alone());

  // Bytes of host memory that a save in the background takes of a model whose checkpoint has
  // `checkpoint_bytes`: on a device with memory of its own all of them, where the host computes
  // none, for then the tensors are read where they lie.
  static std::int64_t memory_bytes(bool background, bool has_own_memory,
                                   std::int64_t checkpoint_bytes);

  // Saves the state of now, unless it has been or a failed save waits for its next try, which takes
  // the state of then. Error(storage) when too many have failed.
  void save();
  // To be called between steps: takes note of a save that has ended, tries a failed one again when
  // its time has come. Error(storage) as above.
  void follow();
  // To be called before parameters or optimizer change: waits until what is being saved of them has
  // been read.
  void before_update();
  // Waits for the save that is running, if one is. Error(storage) as above.
  void wait();
  // Saves the state of now and comes back when it is durable. A stop signal leaves a failing disk
  // stop_seconds, the last try at their end. Error(storage) as above, and when they are over.
  void finish();
  // Waits, says how it ended, and throws nothing: for a run that fails anyhow.
  void give_up() noexcept;

  // The state is that of an older checkpoint again; none is being saved.
  void go_back_to(std::int64_t step);

  std::int64_t saved_step() const { return saved_step_; }  // the last that is durable; -1: none
  std::int64_t failed_saves() const { return failed_saves_; }

 private:
  void start(CheckpointData data);
  std::vector<std::string> write(const CheckpointData& data, const Retention& retention,
                                 const std::function<void()>& all_read);
  void move_to_host(CheckpointData& data);
  void take(const SaveOutcome& outcome);
  void take_failure(std::int64_t step, const std::string& reason);

  Backend& backend_;
  SaverSpec spec_;
  std::function<CheckpointData()> collect_;
  std::function<void(const std::string&)> say_;
  Communicator& communicator_;
  std::unique_ptr<std::byte[]> host_;  // a checkpoint's tensors, of a device with memory of its own
  std::int64_t saved_step_, running_step_ = -1;
  std::int64_t failed_saves_ = 0, failures_in_a_row_ = 0;
  std::string last_reason_;           // of a failure
  std::optional<double> retry_at_;    // by now(); nullopt: nothing waits
  std::optional<SaveThread> thread_;  // last: ends before what its job uses goes
};

}  // namespace lathe
