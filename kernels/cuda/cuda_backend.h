// The CUDA backend: one GPU, one compute stream, on which everything runs in the order it was
// given. Nothing is awaited before a download.
#pragma once

#include <functional>
#include <memory>

#include "gemm.h"
#include "lathe/backend.h"
#include "lathe/cuda.h"
#include "owned.h"
#include "upload_ring.h"

namespace lathe {

class CudaBackend final : public Backend {
 public:
  // Takes this thread's GPU. Errors: usage, when why_no_gpu() has a reason.
  explicit CudaBackend(const CudaOptions& options);
  ~CudaBackend() override;

  std::string description() const override;
  Buffer allocate(std::int64_t bytes) override;
  void upload(const Tensor& to, const void* from) override;
  void download(void* to, const Tensor& from) override;
  void synchronize() override;
  std::optional<DeviceMemory> memory() const override;
  std::string plans() const override;
  void restore_plans(const std::string& plans) override;
  std::vector<std::string> take_messages() override;
  std::unique_ptr<Recorder> make_recorder() override;

  cudaStream_t stream() const { return stream_.get(); }

  // Done before the host waits for the stream, with what it throws: a stream in which others have
  // something to do may never come to its end.
  void set_before_wait(std::function<void()> before_wait) { before_wait_ = std::move(before_wait); }

  // Whether what is executed from here on will come again.
  void set_repeating(bool repeating) { gemms_.set_repeating(repeating); }

  // Changes when scratch memory moves.
  std::int64_t scratch_generation() const { return scratch_floats_; }

 protected:
  void set_profiler(bool on) override;
  void begin_range(const char* name) override;
  void end_range() override;

  void execute(const EmbeddingForward& op) override;
  void execute(const EmbeddingBackward& op) override;
  void execute(const LayerNormForward& op) override;
  void execute(const LayerNormBackward& op) override;
  void execute(const LinearForward& op) override;
  void execute(const LinearBackward& op) override;
  void execute(const AttentionForward& op) override;
  void execute(const AttentionBackward& op) override;
  void execute(const AttentionCached& op) override;
  void execute(const CrossEntropy& op) override;
  void execute(const AdamWUpdate& op) override;
  void execute(const SumOfSquares& op) override;
  void execute(const Sum& op) override;
  void execute(const Convert& op) override;
  void execute(const Fill& op) override;

 private:
  // Memory for one operation's own sums, until the next operation asks for some.
  float* scratch(std::int64_t floats);

  void add_bias_gradient(const LinearBackward& op);

  CudaOptions options_;
  std::function<void()> before_wait_ = [] {};
  cuda::OwnedStream stream_;
  cuda::UploadRing uploads_;
  cuda::Gemms gemms_;
  Buffer scratch_;
  std::int64_t scratch_floats_ = 0;
};

}  // namespace lathe
