// A device that executes operations. run() does what all devices have in common (checks, timing);
// a device implements one execute() per operation, at the bottom of that operation's own file.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "lathe/ops.h"

namespace lathe {

// Memory of a device, freed with its owner. Contents are zero.
using Buffer = std::unique_ptr<std::byte[], std::function<void(std::byte*)>>;

using SteadyTime = std::chrono::steady_clock::time_point;

// An operation that ran. `layer`: the block that it is of; -1: of none.
struct TimedOperation {
  const char* name;
  std::int64_t layer;
  SteadyTime start, end;
  Cost cost;

  double seconds() const { return std::chrono::duration<double>(end - start).count(); }
};

// Told of every operation that ran, and when.
class Tracer {
 public:
  virtual ~Tracer() = default;
  virtual void record(const TimedOperation& operation) = 0;
};

// What an operation has written, once it has run. `layer`: the block that it is of; -1: of none.
struct OperationOutputs {
  const char* name;
  Outputs outputs;
  std::int64_t layer;
};

// Shown the outputs of every operation.
class OutputObserver {
 public:
  virtual ~OutputObserver() = default;
  virtual void observe(const OperationOutputs& operation) = 0;
};

// Runs work that comes again: with the same key, the same operations on the same operands, which
// read nothing back and take no memory. A device may record it and replay the record.
class Recorder {
 public:
  virtual ~Recorder() = default;
  virtual void run(const std::string& /*key*/, const std::function<void()>& work) { work(); }
};

// Bytes of a device's own memory.
struct DeviceMemory {
  std::int64_t free, total;
};

class Backend {
 public:
  virtual ~Backend() = default;

  template <class Op>
  void run(const Op& op) {
    check(op);
    if (is_profiled_) begin_range(Op::kName);
    const SteadyTime start = is_traced() ? synchronized_now() : SteadyTime();
    execute(op);
    if (is_traced()) tracer_->record({Op::kName, layer_, start, synchronized_now(), cost(op)});
    if (is_profiled_) end_range();
    if (is_observed()) observer_->observe({Op::kName, outputs(op), layer_});
  }

  virtual std::string description() const = 0;  // "cpu, 4 threads, AVX-512"
  virtual Buffer allocate(std::int64_t bytes) = 0;
  virtual void upload(const Tensor& to, const void* from) = 0;
  virtual void download(void* to, const Tensor& from) = 0;
  virtual void synchronize() = 0;

  // Of a device with memory of its own; nullopt: it uses the host's.
  virtual std::optional<DeviceMemory> memory() const { return std::nullopt; }

  virtual std::unique_ptr<Recorder> make_recorder() { return std::make_unique<Recorder>(); }

  // What the device has chosen by measuring and what results depend on, as text to be kept with a
  // run; "" when there is nothing. Restoring takes it over where it still holds.
  virtual std::string plans() const { return ""; }
  virtual void restore_plans(const std::string& /*plans*/) {}

  // Lines to be said to the user, since the last call.
  virtual std::vector<std::string> take_messages() { return {}; }

  // Times every operation from here on, each awaited before the next; nullptr stops. Not owned.
  void set_tracer(Tracer* tracer) { tracer_ = tracer; }
  bool is_traced() const { return tracer_ != nullptr; }

  // Shows it the outputs of every operation from here on; nullptr stops. Not owned.
  void set_observer(OutputObserver* observer) { observer_ = observer; }
  bool is_observed() const { return observer_ != nullptr; }

  // Says of what block the operations are, as long as it lives.
  class Layer {
   public:
    Layer(Backend& backend, std::size_t layer) : backend_(backend) {
      backend_.layer_ = static_cast<std::int64_t>(layer);
    }
    Layer(const Layer&) = delete;
    Layer& operator=(const Layer&) = delete;
    ~Layer() { backend_.layer_ = kNoLayer; }

   private:
    Backend& backend_;
  };

  // Between them a profiler that is attached sees every operation under its name.
  void start_profiling();
  void stop_profiling();
  bool is_profiled() const { return is_profiled_; }

 protected:
  virtual void set_profiler(bool /*on*/) {}
  virtual void begin_range(const char* /*name*/) {}
  virtual void end_range() {}

  virtual void execute(const EmbeddingForward& op) = 0;
  virtual void execute(const EmbeddingBackward& op) = 0;
  virtual void execute(const LayerNormForward& op) = 0;
  virtual void execute(const LayerNormBackward& op) = 0;
  virtual void execute(const LinearForward& op) = 0;
  virtual void execute(const LinearBackward& op) = 0;
  virtual void execute(const AttentionForward& op) = 0;
  virtual void execute(const AttentionBackward& op) = 0;
  virtual void execute(const AttentionCached& op) = 0;
  virtual void execute(const CrossEntropy& op) = 0;
  virtual void execute(const AdamWUpdate& op) = 0;
  virtual void execute(const SumOfSquares& op) = 0;
  virtual void execute(const Sum& op) = 0;
  virtual void execute(const Convert& op) = 0;
  virtual void execute(const Fill& op) = 0;

 private:
  SteadyTime synchronized_now();  // after all work given so far has ended

  static constexpr std::int64_t kNoLayer = -1;

  Tracer* tracer_ = nullptr;
  OutputObserver* observer_ = nullptr;
  std::int64_t layer_ = kNoLayer;
  bool is_profiled_ = false;
};

// Threads this process may use: its affinity mask and cgroup CPU quota, at least 1.
int available_threads();

std::unique_ptr<Backend> make_cpu_backend(int threads);

}  // namespace lathe
